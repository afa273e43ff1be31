"""A conversion can be repeated, interrupted and killed: what is there stays, and only what changed is written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import miniature_files
import miniatures
import numpy as np
import pytest

from meduniseg_core.conversion import CONVERSIONS, ConversionResult, convert_dataset, writing
from meduniseg_core.conversion.split import random_subsets
from meduniseg_core.errors import BadInputError, CancelledError, UnwritableError, UsageError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.preprocessing import RawDataset, check_dataset


@pytest.fixture
def download(tmp_path: Path) -> Path:
    miniatures.DOWNLOADS["LiTS"](tmp_path / "download")
    return tmp_path / "download"


def convert(download: Path, **options: object) -> ConversionResult:
    return convert_dataset(CONVERSIONS["LiTS"], download, download.parent / "set", **options)  # type: ignore[arg-type]


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_a_second_run_does_nothing(download: Path) -> None:
    assert convert(download).converted == 5
    before = states(download.parent / "set")
    assert convert(download).converted == 0
    assert states(download.parent / "set") == before


@pytest.mark.parametrize("name", ["AutoPET22", "SIIM", "Prostate"])
def test_a_second_run_of_other_kinds_does_nothing_either(name: str, tmp_path: Path) -> None:
    miniatures.DOWNLOADS[name](tmp_path / "download")
    entry = CONVERSIONS[name]
    first = convert_dataset(entry, tmp_path / "download", tmp_path / "set")
    before = states(tmp_path / "set")
    second = convert_dataset(entry, tmp_path / "download", tmp_path / "set")
    assert (second.converted, second.deviations) == (0, first.deviations)
    assert states(tmp_path / "set") == before


def test_a_changed_file_redoes_its_own_case_on_its_side(download: Path) -> None:
    convert(download)
    target = download.parent / "set"
    sides = {split: [case.case for case in RawDataset.open(target).cases(split)] for split in ("Tr", "Ts")}
    before = states(target)
    miniature_files.nifti(download / "Training Batch 1/segmentation-2.nii", miniature_files.blocks(2))
    assert convert(download).converted == 1
    changed = {name for name, state in states(target).items() if before[name] != state}
    changed.discard("conversion.jsonl")
    assert {Path(name).name for name in changed} == {"lits_2_0000.nii.gz", "lits_2.nii.gz"}
    (path,) = target.glob("labelsT?/lits_2.nii.gz")
    assert set(np.unique(read_labels(path).array)) == {0, 2}
    assert sides == {split: [case.case for case in RawDataset.open(target).cases(split)] for split in ("Tr", "Ts")}


def test_a_missing_converted_file_is_written_again(download: Path) -> None:
    convert(download)
    (path,) = (download.parent / "set").glob("labelsT?/lits_3.nii.gz")
    path.unlink()
    assert convert(download).converted == 1
    assert path.is_file()


def test_an_edited_converted_file_is_never_replaced(download: Path) -> None:
    convert(download)
    (path,) = (download.parent / "set").glob("labelsT?/lits_3.nii.gz")
    path.write_bytes(b"mine")
    assert convert(download).converted == 0
    miniature_files.nifti(download / "Training Batch 2/segmentation-3.nii", miniature_files.blocks(2))
    (fault,) = convert(download).faults
    assert "was changed since it was converted" in fault
    assert path.read_bytes() == b"mine"


def test_new_cases_leave_the_others_on_their_side(download: Path) -> None:
    convert(download)
    target = download.parent / "set"
    before = {case.case for case in RawDataset.open(target).cases("Ts")}
    for number in range(5, 15):
        miniature_files.nifti(download / f"volume-{number}.nii", miniature_files.volume(number))
        miniature_files.nifti(download / f"segmentation-{number}.nii", miniature_files.blocks(1, 2))
    result = convert(download)
    after = {case.case for case in RawDataset.open(target).cases("Ts")}
    assert (result.converted, result.train, result.test) == (10, 12, 3)
    assert before < after


def test_a_damaged_case_is_named_and_the_others_are_converted(download: Path) -> None:
    (download / "Training Batch 1/volume-1.nii").write_bytes(b"no NIfTI")
    result = convert(download)
    assert (result.converted, len(result.faults)) == (4, 1)
    assert "lits_1" in result.faults[0]
    assert check_dataset(RawDataset.open(result.folder)) == []
    miniature_files.nifti(download / "Training Batch 1/volume-1.nii", miniature_files.volume(1))
    assert (convert(download).converted, convert(download).faults) == (1, ())


def test_a_label_value_that_the_data_set_does_not_have_is_a_fault(download: Path) -> None:
    miniature_files.nifti(download / "Training Batch 1/segmentation-0.nii", miniature_files.blocks(7))
    (fault,) = convert(download).faults
    assert "segmentation-0.nii holds the value 7" in fault


def test_stopped_work_goes_on(download: Path) -> None:
    token = CancelToken()

    def stop_at_two(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "convert" and event.done == 2:
            token.cancel()

    with pytest.raises(CancelledError, match="with 2 cases converted"):
        convert(download, events=stop_at_two, cancel=token)
    assert convert(download).converted == 3


def test_after_a_kill_the_torn_line_s_case_is_done_again(download: Path) -> None:
    convert(download)
    record = download.parent / "set/conversion.jsonl"
    record.write_bytes(record.read_bytes()[:-25])
    assert convert(download).converted == 1
    assert convert(download).converted == 0


def test_cases_that_left_the_download_stay_and_are_named(download: Path) -> None:
    convert(download)
    shutil.rmtree(download / "Training Batch 2")
    result = convert(download)
    assert result.train + result.test == 5
    assert any("2 cases no longer in" in line for line in result.deviations)


def test_counts_that_differ_from_the_paper_s_are_named(download: Path) -> None:
    (line,) = convert(download).deviations
    assert line == "LiTS has 4 training and 1 test cases, in the paper 104 and 27 (126 fewer)."


def test_a_folder_of_something_else_is_not_written_into(download: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="was not made by"):
        convert_dataset(CONVERSIONS["LiTS"], download, tmp_path / "mine")
    convert(download)
    with pytest.raises(UsageError, match="holds LiTS already"):
        convert_dataset(CONVERSIONS["KiTS19"], download, tmp_path / "set")
    with pytest.raises(UsageError, match="holds the download itself"):
        convert_dataset(CONVERSIONS["LiTS"], download, tmp_path)


def test_another_download_is_refused_with_the_layout_that_is_looked_for(download: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no case of KiTS19, whose download looks like this: case_NNNNN"):
        convert_dataset(CONVERSIONS["KiTS19"], download, tmp_path / "kits")
    assert not (tmp_path / "kits").exists()


def test_labels_that_say_they_lie_elsewhere_are_taken_by_voxel_and_it_is_said(download: Path) -> None:
    elsewhere = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    miniature_files.nifti(download / "Training Batch 1/segmentation-0.nii", miniature_files.blocks(1, 2), elsewhere)
    for _ in range(2):
        result = convert(download)
        assert result.faults == ()
        assert "lits_0: segmentation-0.nii says that it lies elsewhere" in result.warnings[0]
    assert check_dataset(RawDataset.open(result.folder)) == []
    (path,) = result.folder.glob("labelsT?/lits_0.nii.gz")
    assert np.array_equal(read_labels(path).array[0], miniature_files.blocks(1, 2))


def test_labels_of_another_size_are_a_fault(download: Path) -> None:
    labels = np.zeros((6, 10, 40), np.int16)
    labels[2, 3, 30] = 1
    miniature_files.nifti(download / "Training Batch 1/segmentation-0.nii", labels)
    (fault,) = convert(download).faults
    assert "segmentation-0.nii" in fault


def test_a_folder_that_cannot_be_read_is_an_error(download: Path) -> None:
    (download / "Training Batch 2").chmod(0)
    try:
        if os.access(download / "Training Batch 2", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(BadInputError, match="Training Batch 2 cannot be read"):
            convert(download)
    finally:
        (download / "Training Batch 2").chmod(0o755)


def test_killed_while_writing_anew_a_case_is_not_taken_for_edited(download: Path, monkeypatch) -> None:
    """The image is in place, the label map and the record are not."""
    convert(download)
    miniature_files.nifti(download / "Training Batch 1/volume-2.nii", miniature_files.volume(77))

    def killed(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            convert(download)
    result = convert(download)
    assert (result.converted, result.faults) == (1, ())
    (path,) = result.folder.glob("imagesT?/lits_2_0000.nii.gz")
    assert np.array_equal(read_image(path).array[0], miniature_files.volume(77))


@pytest.mark.parametrize("name", ["Prostate"])
def test_several_processes_write_the_same_files(name: str, tmp_path: Path) -> None:
    miniatures.DOWNLOADS[name](tmp_path / "download")
    entry = CONVERSIONS[name]
    one = convert_dataset(entry, tmp_path / "download", tmp_path / "one")
    two = convert_dataset(entry, tmp_path / "download", tmp_path / "two", processes=2)
    assert (one.converted, one.faults, one.warnings) == (two.converted, two.faults, two.warnings)
    for path in (tmp_path / "one").glob("*s??/*"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        if path.parent.name.startswith("labels"):
            assert np.array_equal(read_labels(path).array, read_labels(other).array)
        else:
            assert np.array_equal(read_image(path).array, read_image(other).array)


def test_a_disk_that_refuses_ends_the_work(tmp_path: Path, monkeypatch) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    miniatures.DOWNLOADS["KiTS19"](tmp_path / "download")
    monkeypatch.setattr(writing.shutil, "copyfile", full)
    with pytest.raises(UnwritableError, match="cannot be written to"):
        convert_dataset(CONVERSIONS["KiTS19"], tmp_path / "download", tmp_path / "set")


def test_another_seed_is_another_data_set(download: Path) -> None:
    convert(download)
    with pytest.raises(UsageError, match="was divided with --seed 0"):
        convert(download, seed=1)


def test_a_new_table_entry_converts_all_anew_and_its_wording_nothing(download: Path) -> None:
    convert(download)
    entry = CONVERSIONS["LiTS"]
    reworded = entry.model_copy(update={"licence": "another wording"})
    assert convert_dataset(reworded, download, download.parent / "set").converted == 0
    changed = entry.model_copy(update={"parts": (entry.parts[0].model_copy(update={"outside": -1.0}),)})
    assert convert_dataset(changed, download, download.parent / "set").converted == 5


def test_two_copies_of_an_image_are_a_fault(download: Path) -> None:
    shutil.copy(download / "Training Batch 1/volume-0.nii", download / "Training Batch 2/volume-0.nii")
    (fault,) = convert(download).faults
    assert "keep one copy" in fault


def test_an_output_inside_the_download_is_not_read_as_part_of_it(tmp_path: Path) -> None:
    miniatures.DOWNLOADS["MSD-Spleen"](tmp_path)
    for _ in range(2):
        result = convert_dataset(CONVERSIONS["MSD-Spleen"], tmp_path, tmp_path / "converted")
    assert (result.train, result.test, result.converted) == (4, 1, 0)


def test_nifti_files_are_copied_byte_for_byte(tmp_path: Path) -> None:
    miniatures.DOWNLOADS["KiTS19"](tmp_path / "download")
    convert_dataset(CONVERSIONS["KiTS19"], tmp_path / "download", tmp_path / "set")
    (copy,) = (tmp_path / "set").glob("imagesT?/case_00001_0000.nii.gz")
    assert copy.read_bytes() == (tmp_path / "download/data/case_00001/imaging.nii.gz").read_bytes()
    assert copy.stat().st_nlink == 1


@pytest.mark.parametrize("name", [entry.name for entry in CONVERSIONS.values() if entry.split == "random"])
def test_a_complete_download_is_divided_as_in_the_paper(name: str) -> None:
    entry = CONVERSIONS[name]
    patients = {f"case{number}": f"patient{number}" for number in range(entry.task.train + entry.task.test)}
    subsets = list(random_subsets(patients, entry.test_fraction, "0", {}).values())
    assert (subsets.count("train"), subsets.count("test")) == (entry.task.train, entry.task.test)


def test_no_patient_is_on_both_sides() -> None:
    patients = {f"case{number}": f"patient{number // 3}" for number in range(60)}
    subsets = random_subsets(patients, 0.2, "0", {})
    for patient in set(patients.values()):
        assert len({subsets[case] for case in patients if patients[case] == patient}) == 1
    assert sum(subset == "test" for subset in subsets.values()) == 12
    assert subsets != random_subsets(patients, 0.2, "1", {})
