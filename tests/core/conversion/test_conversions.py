"""Every data set of the paper, from a miniature of its official download to a data set that check and plan take."""

from __future__ import annotations

import json
from pathlib import Path

import miniature_files
import miniatures
import numpy as np
import pytest

from meduniseg_core.conversion import CONVERSIONS, ConversionResult, convert_dataset, find_conversion, recognise
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.preprocessing import RawDataset, check_dataset, make_plan

COUNTS = {  # training and test cases of the miniatures
    "AutoPET22": (3, 1),  # four of five studies have a lesion
    "Prostate": (4, 1),
    "ISIC18": (4, 2),
    "REFUGE2": (4, 2),
    "GlaS": (3, 2),
    "BUSI": (5, 1),
    "QaTav2": (3, 1),
    "Polyp": (4, 5),
    "BTCV": (3, 2),  # 30 % of five are 1.5
    "VS": (2, 1),
    "SIIM": (4, 2),  # two with a lesion and as many normal ones
    "IDRiD": (3, 1),
    "SegPC": (3, 2),
}


def converted(name: str, folder: Path) -> ConversionResult:
    miniatures.DOWNLOADS[name](folder / "download")
    return convert_dataset(CONVERSIONS[name], folder / "download", folder / "set")


def labels_of(folder: Path, case: str) -> np.ndarray:
    (path,) = (folder / "set").glob(f"labelsT?/{case}.*")
    return read_labels(path).array[0]


def cases_of(folder: Path, split: str) -> list[str]:
    return sorted(case.case for case in RawDataset.open(folder / "set").cases(split))


@pytest.mark.parametrize("name", list(CONVERSIONS))
def test_a_download_becomes_a_data_set_that_check_and_plan_take(name: str, tmp_path: Path) -> None:
    result = converted(name, tmp_path)
    assert result.faults == ()
    assert (result.train, result.test) == COUNTS.get(name, (4, 1))
    dataset = RawDataset.open(result.folder)
    assert check_dataset(dataset) == []
    task = CONVERSIONS[name].task
    assert (dataset.task, dataset.modality, dataset.classes) == (task.name, task.modality, task.classes)
    assert dataset.channels == task.channels
    assert (len(dataset.cases("Tr")), len(dataset.cases("Ts"))) == (result.train, result.test)
    plan = make_plan(dataset)
    assert (plan.task, plan.dimension, plan.classes) == (task.name, task.dimension, task.classes)


@pytest.mark.parametrize("name", list(CONVERSIONS))
def test_a_download_is_recognised_by_its_files(name: str, tmp_path: Path) -> None:
    miniatures.DOWNLOADS[name](tmp_path)
    assert recognise(tmp_path)[0].name == name


@pytest.mark.parametrize("name", ["Liver", "liver", "lits", "LiTS17", "Liver and liver tumour"])
def test_a_data_set_has_many_names(name: str) -> None:
    assert find_conversion(name).name == "LiTS"


def test_the_table_holds_every_task_of_the_paper_once() -> None:
    from meduniseg_core.catalog import TASKS

    assert [entry.task_name for entry in CONVERSIONS.values()] == list(TASKS)
    assert len(CONVERSIONS) == 23


# -- what is in the files -------------------------------------------------------------------------------------------


def test_values_become_the_catalogue_s_ids_by_class(tmp_path: Path) -> None:
    """BraTS: 1 is the non-enhancing core, 2 the edema, 4 the enhancing tumour; the catalogue begins with the edema."""
    converted("BraTS21", tmp_path)
    case = cases_of(tmp_path, "Tr")[0]
    stored = miniature_files.blocks(1, 2, 4)
    found = labels_of(tmp_path, case)
    assert RawDataset.open(tmp_path / "set").classes == ("edema", "non-enhancing", "enhancing")
    for value, number in ((0, 0), (1, 2), (2, 1), (4, 3)):
        assert np.array_equal(found == number, stored == value)
    image = read_image(sorted((tmp_path / "set/imagesTr").glob(f"{case}_*")))
    number = int(case[-5:])
    for channel, seed in enumerate((10, 20, 30, 0)):  # T1, T1ce, T2, FLAIR
        assert np.array_equal(image.array[channel], miniature_files.volume(seed + number))


def test_all_vertebrae_are_one_class_and_scans_of_a_patient_stay_together(tmp_path: Path) -> None:
    converted("VerSe20", tmp_path)
    train, test = cases_of(tmp_path, "Tr"), cases_of(tmp_path, "Ts")
    twins = {"sub-verse500_split-verse201", "sub-verse500_split-verse202"}
    assert twins <= set(train) or twins <= set(test)
    assert not any("verse999" in case for case in [*train, *test])
    assert np.array_equal(labels_of(tmp_path, train[0]) == 1, miniature_files.blocks(18, 19, 25) > 0)
    patients = json.loads((tmp_path / "set/dataset.json").read_text())["patient_of"]
    assert patients["sub-verse500_split-verse201"] == patients["sub-verse500_split-verse202"]


def test_prostate_joins_dicom_nrrd_and_mhd_and_keeps_the_site(tmp_path: Path) -> None:
    converted("Prostate", tmp_path)
    assert json.loads((tmp_path / "set/dataset.json").read_text())["source_of"] == {
        "Prostate3T-01-0001": "RUNMC",
        "ProstateDx-01-0002": "BMC",
        "i2cvb_Patient_384": "I2CVB",
        "promise12_Case00": "PROMISE12",
        "promise12_Case01": "PROMISE12",
    }
    assert np.array_equal(labels_of(tmp_path, "ProstateDx-01-0002") == 1, miniature_files.blocks(1, 2) > 0)
    assert np.array_equal(labels_of(tmp_path, "i2cvb_Patient_384") == 1, miniature_files.blocks(1) > 0)


def test_the_joined_prostate_release_is_taken_too(tmp_path: Path) -> None:
    miniatures.prostate_joined(tmp_path / "download")
    result = convert_dataset(CONVERSIONS["Prostate"], tmp_path / "download", tmp_path / "set")
    assert (result.train, result.test, result.faults) == (3, 1, ())
    sources = json.loads((tmp_path / "set/dataset.json").read_text())["source_of"]
    assert sources["HK_Case00"] == "HK"


def test_ct_is_resampled_to_the_pet_and_studies_without_lesion_are_left_out(tmp_path: Path) -> None:
    result = converted("AutoPET22", tmp_path)
    assert any("1 case without any target" in line for line in result.deviations)
    cases = [*cases_of(tmp_path, "Tr"), *cases_of(tmp_path, "Ts")]
    assert not any("d4" in case for case in cases)
    case = next(case for case in cases if "b2" in case)
    ct, pet = (read_image(next((tmp_path / "set").glob(f"imagesT?/{case}_000{n}.nii.gz"))) for n in (0, 1))
    assert ct.geometry.is_close(pet.geometry)
    stored = miniature_files.volume(2, miniatures.CT_SHAPE).astype(float)
    # the PET's pixel lies amid four of the CT's
    mean = stored.reshape(6, 10, 2, 12, 2).mean(axis=(2, 4))
    assert np.abs(ct.array[0] - mean).max() <= 0.5 + 1e-6


def test_dicom_studies_become_suv_with_their_segmentation(tmp_path: Path) -> None:
    miniatures.autopet22_dicom(tmp_path / "download")
    result = convert_dataset(CONVERSIONS["AutoPET22"], tmp_path / "download", tmp_path / "set")
    assert (result.train, result.test, result.faults) == (1, 0, ())
    case = "PETCT_e0_06-10-2005_55120"
    pet = read_image(tmp_path / f"set/imagesTr/{case}_0001.nii.gz")
    # 5000 Bq/ml, 75 kg, 300 MBq an hour ago
    assert np.allclose(pet.array, 5000 * 75000 / (3e8 * 2 ** (-3600 / 6586.2)), rtol=1e-5)
    assert np.array_equal(labels_of(tmp_path, case) == 1, miniature_files.blocks(1) > 0)
    assert check_dataset(RawDataset.open(tmp_path / "set")) == []


def test_grey_values_become_disc_and_cup(tmp_path: Path) -> None:
    converted("REFUGE2", tmp_path)
    found, grey = labels_of(tmp_path, "train_t0000")[0], miniatures.disc()
    assert np.array_equal(found, np.select([grey == 128, grey == 0], [1, 2], 0))


def test_the_first_refuge_is_part_of_the_training_images(tmp_path: Path) -> None:
    miniatures.refuge1(tmp_path / "download")
    result = convert_dataset(CONVERSIONS["REFUGE2"], tmp_path / "download", tmp_path / "set")
    assert (result.train, result.test) == (3, 0)
    assert labels_of(tmp_path, "refuge1_V0001").max() == 2


def test_instances_become_one_class(tmp_path: Path) -> None:
    converted("GlaS", tmp_path)
    assert cases_of(tmp_path, "Ts") == ["testA_1", "testB_1"]
    patients = json.loads((tmp_path / "set/dataset.json").read_text())["patient_of"]
    assert patients == {"testA_1": "patient_3", "train_1": "patient_7", "train_2": "patient_7"}
    found = labels_of(tmp_path, "testA_1")[0]
    assert np.array_equal(
        found, (miniature_files.mask(1) + miniature_files.mask(2, slice(12, 16)) > 0).astype(np.uint8)
    )


def test_several_masks_of_an_image_are_merged_and_normal_images_kept(tmp_path: Path) -> None:
    converted("BUSI", tmp_path)
    assert labels_of(tmp_path, "normal_1").max() == 0
    merged = (miniature_files.mask() > 0) | (miniature_files.mask(255, slice(12, 16)) > 0)
    assert np.array_equal(labels_of(tmp_path, "benign_2")[0] == 1, merged)
    assert np.array_equal(labels_of(tmp_path, "benign_1")[0] == 1, miniature_files.mask() > 0)


def test_grey_pictures_become_colour_with_equal_channels(tmp_path: Path) -> None:
    converted("QaTav2", tmp_path)
    image = read_image(tmp_path / "set/imagesTr/covid_1_0000.png").array
    assert image.shape[0] == 3
    assert all(np.array_equal(channel[0], miniature_files.photograph(0)[..., 0]) for channel in image)
    patients = json.loads((tmp_path / "set/dataset.json").read_text())["patient_of"]
    assert set(patients.values()) == {"sub-S09345"}


def test_polyps_keep_their_source(tmp_path: Path) -> None:
    converted("Polyp", tmp_path)
    sources = json.loads((tmp_path / "set/dataset.json").read_text())["source_of"]
    assert set(sources.values()) == {"CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"}
    assert sources["CVC-ClinicDB_train_612"] == "CVC-ClinicDB"


def test_the_five_sources_of_polyps_are_taken_as_they_are_offered(tmp_path: Path) -> None:
    miniatures.polyp_sources(tmp_path / "download")
    result = convert_dataset(CONVERSIONS["Polyp"], tmp_path / "download", tmp_path / "set")
    assert (result.train, result.test, result.faults) == (18, 5, ())
    test = cases_of(tmp_path, "Ts")
    assert {"CVC-300_1", "CVC-ColonDB_1", "ETIS-LaribPolypDB_1"} < set(test)
    assert {case.split("_")[0] for case in test} == {
        "CVC-300",
        "CVC-ColonDB",
        "ETIS-LaribPolypDB",
        "Kvasir",
        "CVC-ClinicDB",
    }
    assert check_dataset(RawDataset.open(tmp_path / "set")) == []


def test_contours_are_filled_with_their_holes(tmp_path: Path) -> None:
    converted("VS", tmp_path)
    case = cases_of(tmp_path, "Tr")[0]
    expected = np.zeros(miniature_files.SHAPE, bool)
    expected[2, 2:6, 2:7] = True
    expected[2, 3, 3:5] = False
    assert np.array_equal(labels_of(tmp_path, case) == 1, expected)


def test_a_structure_set_beside_its_slices_is_found(tmp_path: Path) -> None:
    miniatures.vs_convenient(tmp_path / "download")
    result = convert_dataset(CONVERSIONS["VS"], tmp_path / "download", tmp_path / "set")
    assert (result.train, result.faults) == (1, ())
    assert labels_of(tmp_path, "vs_gk_7")[1, 2:6, 2:7].all()


def test_run_lengths_go_down_the_columns_from_the_last_run_s_end(tmp_path: Path) -> None:
    result = converted("SIIM", tmp_path)
    assert any("2 normal training image(s) left out" in line for line in result.deviations)
    expected = np.zeros(miniature_files.SIDE, bool)
    expected[4:7, 3] = expected[17:19, 3] = True
    assert np.array_equal(labels_of(tmp_path, "1.2.276.0.5.0")[0] == 1, expected)
    expected[0, 0] = True  # the second row of the same image
    assert np.array_equal(labels_of(tmp_path, "1.2.276.0.5.1")[0] == 1, expected)
    assert cases_of(tmp_path, "Ts") == ["1.2.276.0.4.0", "1.2.276.0.4.1"]


def test_a_lesion_without_a_file_is_not_there_and_later_classes_lie_on_top(tmp_path: Path) -> None:
    converted("IDRiD", tmp_path)
    both = np.where(miniature_files.mask(1, slice(9, 14)) > 0, 2, miniature_files.mask(1)).astype(np.uint8)
    assert np.array_equal(labels_of(tmp_path, "IDRiD_01")[0], both)
    assert set(np.unique(labels_of(tmp_path, "IDRiD_02"))) == {0, 2}


def test_cells_are_joined_to_cytoplasm_and_nucleus(tmp_path: Path) -> None:
    converted("SegPC", tmp_path)
    found = labels_of(tmp_path, "106")[0]
    assert found[6, 7] == 2 and found[4, 5] == 1 and found[12, 5] == 2
    assert cases_of(tmp_path, "Ts") == ["1704", "1705"]


def test_organs_keep_the_catalogue_s_order(tmp_path: Path) -> None:
    converted("BTCV", tmp_path)
    case = cases_of(tmp_path, "Tr")[0]
    assert np.array_equal(labels_of(tmp_path, case), miniatures.thirteen())
