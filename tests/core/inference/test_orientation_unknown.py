"""Volumes whose files do not say left from right: refused where a task needs it, unless the user says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from inference_samples import tiny_model, volume, volume_plan

from meduniseg_core.checks.image_checks import check_image
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Image, canonical_orientation, read_image, read_labels
from meduniseg_core.images.oriented import assume_orientation, is_oriented, towards
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import TaskPlan

SIDED = volume_plan("parotids", classes=("left parotid", "right parotid"), mirror_axes=(0, 1))
PLAIN = volume_plan("organ")


def written(path: Path, affine: np.ndarray, code: int, suffix: str = "") -> Image:
    """The same patient's voxels, stored along other axes."""
    array = volume((16, 48, 56)).array[0].transpose(2, 1, 0)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.to_filename(path)
    return read_image(path)


def predictor(*plans: TaskPlan) -> Predictor:
    return Predictor(tiny_model(plans), "cpu", "fp32")


@pytest.mark.parametrize(
    "plan",
    [
        SIDED,
        volume_plan("kidneys", classes=("kidney_l", "kidney_r"), mirror_axes=(0, 1)),
        volume_plan("hearts", classes=("chamber one", "chamber two"), mirror_axes=(0, 1)),  # "sided" in dataset.json
    ],
)
def test_a_task_with_sides_refuses_it_and_names_the_remedy(tmp_path: Path, plan: TaskPlan) -> None:
    image = written(tmp_path / "scan.nii.gz", np.diag([2.0, 2.0, 2.0, 1.0]), code=0)
    with pytest.raises(BadInputError, match=r"scan.nii.gz does not say which side is left.*--assume-orientation"):
        predictor(plan).segment(image, plan.task)


def test_other_tasks_warn_and_an_oriented_image_is_no_finding(tmp_path: Path) -> None:
    unknown = written(tmp_path / "unknown.nii.gz", np.diag([2.0, 2.0, 2.0, 1.0]), code=0)
    found = predictor(PLAIN).segment(unknown, "organ")["organ"]
    assert [finding.code for finding in found.findings] == ["orientation_unknown"]
    known = written(tmp_path / "known.nii.gz", np.diag([2.0, 2.0, 2.0, 1.0]), code=1)
    assert predictor(SIDED).segment(known, "parotids")["parotids"].findings == ()
    flat = Image(volume((1, 16, 16)).array, replace(volume((1, 16, 16)).geometry), meta={"orientation_known": False})
    assert check_image(flat, volume_plan(dimension=2, patch=(1, 64, 64))) == ()


@pytest.mark.parametrize("code", ["RAS", "LAS", "LPS", "RPI", "SAR", "PIR"])
def test_with_the_orientation_said_the_result_is_that_of_a_file_that_says_it(tmp_path: Path, code: str) -> None:
    unit = {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1), "L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * np.array([unit[letter] for letter in code]).T
    known = written(tmp_path / "known.nii.gz", affine, code=1)
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "known.nii.gz").affine)) == code
    unknown = written(tmp_path / "unknown.nii.gz", affine, code=0)
    session = predictor(SIDED)
    right = session.segment(known, "parotids")["parotids"]
    said = session.segment(unknown, "parotids", orientation=code)["parotids"]
    np.testing.assert_array_equal(said.labels.array, right.labels.array)
    assert [finding.code for finding in said.findings] == ["orientation_assumed"]
    path = said.save(tmp_path / "out" / "unknown.nii.gz") if (tmp_path / "out").mkdir() is None else None
    assert path is not None and read_labels(path).geometry == unknown.geometry  # the file's own grid, as it was


def test_an_orientation_that_is_known_is_not_overruled(tmp_path: Path) -> None:
    known = written(tmp_path / "known.nii.gz", np.diag([2.0, 2.0, 2.0, 1.0]), code=1)
    session = predictor(SIDED)
    plain = session.segment(known, "parotids")["parotids"]
    asked = session.segment(known, "parotids", orientation="LAS")["parotids"]
    np.testing.assert_array_equal(asked.labels.array, plain.labels.array)


@pytest.mark.parametrize("code", ["", "RA", "RAX", "RLS", "RASS", "123"])
def test_what_is_no_orientation_is_refused(code: str) -> None:
    with pytest.raises(UsageError, match="is not an orientation"):
        towards(code)


def test_the_letters_say_where_the_axes_of_the_file_point() -> None:
    image = replace(volume((4, 5, 6)), meta={"orientation_known": False})
    assert not is_oriented(image) and is_oriented(assume_orientation(image, "ras"))
    turned, change = canonical_orientation(assume_orientation(image, "RAS"))
    assert change.flips == (False, True, True) and turned.geometry.shape == (4, 5, 6)
    assert canonical_orientation(assume_orientation(image, "LPS"))[1].is_identity
