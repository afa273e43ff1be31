"""Statistics of the training images and classes stand in the plan; they come from the same facts as a result's."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage
from pydantic import ValidationError

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import RawDataset, TaskPlan, load_plans, save_plans
from meduniseg_core.preprocessing.class_statistics import task_statistics
from meduniseg_core.preprocessing.statistics import ClassStatistics, TaskStatistics, join_statistics


def volumes(folder: Path, codes: int = 1) -> RawDataset:
    """Two CT of 10 x 20 x 30 voxels (d, h, w) of 2 x 1 x 1 mm in RAS: a block of 60 HU, and in one of them a second."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for index in range(2):
        ids = np.zeros((30, 20, 10), np.uint8)
        ids[:10, :10, :5] = 1
        if index:
            ids[20:, 10:, 5:7] = 2
        hu = np.where(ids == 1, 60 + 10 * index, np.where(ids == 2, 400, -1000)).astype(np.int16)
        for array, path in ((hu, f"imagesTr/c{index}_0000.nii.gz"), (ids, f"labelsTr/c{index}.nii.gz")):
            image = nib.Nifti1Image(array, affine)
            image.set_sform(affine, codes)
            image.set_qform(affine, codes)
            image.header.set_xyzt_units("mm")
            image.to_filename(folder / path)
    labels = {"background": 0, "soft": 1, "bone": 2}
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "task": "blocks"})
    )
    return RawDataset.open(folder)


def ct_plan(**changes: object) -> TaskPlan:
    fields: dict[str, object] = {
        "task": "blocks",
        "modality": "ct",
        "dimension": 3,
        "channels": ("CT",),
        "classes": ("soft", "bone"),
        "spacing": (2.0, 1.0, 1.0),
        "patch": (16, 32, 32),
        "normalisation": ("ct",),
        "figures": ({"mean": 60.0, "std": 100.0, "percentile_00_5": -100.0, "percentile_99_5": 400.0},),
    }
    return TaskPlan.model_validate({**fields, **changes})


def test_sizes_intensities_and_places_are_those_of_the_labels(tmp_path: Path) -> None:
    found = task_statistics(volumes(tmp_path), ct_plan())
    assert found is not None and found.cases == 2 and found.oriented and found.size_unit == "ml"
    assert found.extent == ((20.0, 20.0), (20.0, 20.0), (30.0, 30.0))
    assert found.spacing == ((2.0, 2.0), (1.0, 1.0), (1.0, 1.0)) and found.detail is None
    soft, bone = found.classes
    assert soft is not None and bone is not None
    assert (soft.cases, bone.cases) == (2, 1)
    assert soft.size == (1.0, 1.0) and bone.size == (0.4, 0.4)  # 500 and 200 voxels of 2 mm3
    assert soft.intensity == ((60.0, 70.0),) and bone.intensity == ((400.0, 400.0),)
    # stored in RAS: canonical w runs to the left and h to the back, so both ends change places
    assert soft.centre == ((0.25, 0.25), (0.75, 0.75), pytest.approx((5 / 6, 5 / 6), abs=1e-5))


def test_a_data_set_that_does_not_say_left_from_right_is_known_as_such(tmp_path: Path) -> None:
    found = task_statistics(volumes(tmp_path, codes=0), ct_plan())
    assert found is not None and not found.oriented


def test_pictures_are_measured_by_their_own_size_and_contrast(tmp_path: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    for index, factor in enumerate((1, 2)):  # another exposure is no other intensity
        picture = np.full((40, 80), 20 * factor, np.uint8)
        picture[10:20, 20:40] = 100 * factor
        PillowImage.fromarray(picture).save(tmp_path / "imagesTr" / f"p{index}_0000.png")
        PillowImage.fromarray((picture == 100 * factor).astype(np.uint8)).save(tmp_path / "labelsTr" / f"p{index}.png")
    labels = {"background": 0, "spot": 1}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "us"}, "labels": labels, "file_ending": ".png", "modality": "ultrasound"})
    )
    plan = ct_plan(
        modality="ultrasound",
        dimension=2,
        channels=("us",),
        classes=("spot",),
        spacing=None,
        longest_side=64,
        patch=(1, 64, 64),
        normalisation=("zscore",),
        figures=(None,),
    )
    found = task_statistics(RawDataset.open(tmp_path), plan)
    assert found is not None and found.size_unit == "share" and found.spacing is None
    (spot,) = found.classes
    assert spot is not None and spot.size == (0.0625, 0.0625)
    assert spot.intensity[0] == pytest.approx((15**0.5, 15**0.5), rel=1e-4)
    assert spot.centre == ((0.5, 0.5), (0.375, 0.375), (0.375, 0.375))


def test_facts_are_kept_as_long_as_the_case_is_the_same(tmp_path: Path) -> None:
    dataset = volumes(tmp_path / "data")
    keys, folder = {"c0": "a", "c1": "b"}, tmp_path
    first = task_statistics(dataset, ct_plan(), keys=keys, folder=folder)
    (tmp_path / "data" / "imagesTr" / "c0_0000.nii.gz").unlink()
    (tmp_path / "data" / "imagesTr" / "c0_0000.nii.gz").write_bytes(b"gone")
    assert task_statistics(dataset, ct_plan(), keys=keys, folder=folder) == first
    only = task_statistics(dataset, ct_plan(), keys={"c1": "b"}, folder=folder)
    assert only is not None and only.cases == 1


def test_a_base_s_statistics_are_widened_by_the_new_cases(tmp_path: Path) -> None:
    found = task_statistics(volumes(tmp_path), ct_plan())
    assert found is not None and found.classes[1] is not None
    wide = found.classes[1].model_copy(update={"size": (0.1, 0.2), "intensity": ((500.0, 900.0),)})
    other = found.model_copy(update={"classes": (None, wide), "cases": 7})
    both = join_statistics(found, other)
    assert both.cases == 9 and both.classes[0] == found.classes[0]
    assert both.classes[1] is not None
    assert both.classes[1].size == (0.1, 0.4) and both.classes[1].intensity == ((400.0, 900.0),)


def test_statistics_survive_a_plan_file_and_bad_ones_are_refused(tmp_path: Path) -> None:
    found = task_statistics(volumes(tmp_path), ct_plan())
    plan = ct_plan(statistics=found)
    save_plans([plan], tmp_path / "plans.json")
    assert load_plans(tmp_path / "plans.json") == (plan,)
    with pytest.raises(ValidationError, match="lower one"):
        ClassStatistics(cases=1, size=(2, 1), intensity=(), centre=((0, 1), (0, 1), (0, 1)))
    with pytest.raises(ValidationError):
        TaskStatistics.model_validate({**plan.model_dump()["statistics"], "extent": ((0, float("nan")),) * 3})


def test_a_model_trained_before_gets_them_afterwards(tmp_path: Path) -> None:
    from meduniseg_core.model import ModelConfig
    from meduniseg_core.weights import ModelInfo
    from meduniseg_core.weights.statistics_step import with_statistics

    dataset = volumes(tmp_path)
    config = ModelConfig(features=(4, 4), strides=((2, 2, 2),), classes=3, modalities=1, tasks=1)
    info = ModelInfo(name="old", config=config, tasks=(ct_plan(),), modalities=("ct",))
    found = with_statistics(info, [dataset]).plan_of("blocks").statistics
    assert found == task_statistics(dataset, ct_plan())
    with pytest.raises(UsageError, match="give the data set it was trained on"):
        with_statistics(info.model_copy(update={"tasks": (ct_plan(classes=("one",)),)}), [dataset])
