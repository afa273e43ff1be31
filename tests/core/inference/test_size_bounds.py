"""The working size is bounded before anything is computed, whatever a header claims."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from inference_samples import picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.checks.image_checks import check_image
from meduniseg_core.errors import BadInputError, OutOfMemoryError
from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import preprocess
from meduniseg_core.preprocessing.working_size import check_working_size
from meduniseg_core.weights import Registry


def stored(path: Path, spacing: tuple[float, float, float], shape: tuple[int, int, int] = (20, 30, 40)) -> Path:
    array = np.random.default_rng(0).integers(-1000, 300, shape).astype(np.int16)
    image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


@pytest.mark.parametrize("size", [1e-30, 1e-6, 2e-3, 1e3, 1e4, 1e10, 1e30])
@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1, 2)])
def test_a_voxel_size_that_cannot_be_is_refused_at_once(tmp_path: Path, size: float, axes: tuple[int, ...]) -> None:
    sizes = [2.0, 2.0, 2.0]
    for axis in axes:
        sizes[axis] = size
    path = stored(tmp_path / "scan.nii.gz", (sizes[0], sizes[1], sizes[2]))
    predictor = Predictor(tiny_model([volume_plan()]), "cpu", "fp32")
    began = time.perf_counter()
    # (the reader may refuse the smallest and largest itself)
    with pytest.raises(BadInputError, match=r"scan.nii.gz .*(header|orientation)") as caught:
        predictor.segment(read_image(path), "organ")
    assert time.perf_counter() - began < 5 and "\n" not in str(caught.value)


def test_the_forecast_refuses_it_too() -> None:
    image = Image(np.zeros((1, 8, 8, 8), np.int16), Geometry((8, 8, 8), (1e9, 2.0, 2.0)))
    with pytest.raises(BadInputError, match="correct it in the header"):
        Predictor(tiny_model([volume_plan()]), "cpu", "fp32").estimate(image, "organ")


def test_training_images_are_bounded_as_well() -> None:
    image = Image(np.zeros((1, 8, 8, 8), np.int16), Geometry((8, 8, 8), (2.0, 2.0, 5000.0)))
    with pytest.raises(BadInputError, match="5000 mm"):
        preprocess(image, volume_plan())


def test_more_voxels_than_can_be_worked_on_are_refused() -> None:
    array = np.broadcast_to(np.zeros((), np.int16), (1, 250, 250, 250))
    image = Image(array, Geometry((250, 250, 250), (10.0, 10.0, 10.0)))
    with pytest.raises(BadInputError, match="2,500 x 2,500 x 2,500 voxels"):
        Predictor(tiny_model([volume_plan(spacing=(1.0, 1.0, 1.0))]), "cpu", "fp32").segment(image, "organ")


def test_the_prepared_array_is_estimated_against_free_memory_first() -> None:
    array = np.broadcast_to(np.zeros((), np.int16), (1, 200, 200, 200))
    image = Image(array, Geometry((200, 200, 200), (10.0, 10.0, 10.0)))  # 1,000 x 1,000 x 1,000 at 2 mm
    predictor = Predictor(tiny_model([volume_plan()]), "cpu", "fp32", free=lambda _: 2 << 30)
    began = time.perf_counter()
    with pytest.raises(OutOfMemoryError, match=r"about 4\.\d GiB are needed and 2\.0 GiB are free"):
        predictor.segment(image, "organ")
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("spacing", [(5.0, 0.4, 0.4), (10.0, 1.0, 1.0), (0.3, 0.3, 0.3), (1.0, 8.0, 8.0)])
def test_the_sizes_of_real_scanners_are_no_finding(spacing: tuple[float, float, float]) -> None:
    image = Image(volume((8, 16, 16)).array, Geometry((8, 16, 16), spacing))
    assert check_image(image, volume_plan()) == ()


def test_an_unusual_size_is_said() -> None:
    tenth = Image(volume((8, 16, 16)).array, Geometry((8, 16, 16), (0.07, 0.07, 0.07)))
    assert [finding.code for finding in check_image(tenth, volume_plan())] == ["spacing_unusual"]


@pytest.mark.parametrize(
    ("modality", "shape", "spacing", "refused"),
    [
        ("ct", (14, 18, 16), (50.0, 50.0, 50.0), "no CT image has"),
        ("ct", (14, 18, 16), (20.0, 20.0, 20.0), "no CT image has"),
        ("ct", (14, 18, 16), (30.0, 1.0, 1.0), "no CT image has"),  # a slice distance
        ("ct", (18, 16, 14), (1.0, 12.0, 12.0), "no CT image has"),  # sagittal, in centimetres
        ("ct", (40, 512, 512), (5.0, 7.0, 7.0), "3.58 m along a side"),  # each size alone is possible
        ("pet", (300, 10, 10), (10.0, 4.0, 4.0), "3 m along a side"),
        ("mri", (20, 16, 16), (2.0, 2.0, 11.0), None),  # a slice distance along another axis
        ("mri", (6, 64, 64), (20.0, 1.0, 1.0), None),  # a localiser with gaps
        ("ct", (400, 512, 512), (5.0, 0.98, 0.98), None),  # a whole body
        ("pet", (300, 150, 150), (3.27, 5.4, 5.4), None),
        ("ultrasound", (20, 100, 100), (0.5, 0.5, 6.0), None),
        ("ultrasound", (20, 100, 100), (7.0, 7.0, 7.0), "no Ultrasound image has"),
    ],
)
def test_sizes_that_no_image_of_a_modality_has_are_refused(
    modality: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], refused: str | None
) -> None:
    plan = volume_plan(modality=modality, normalisation=("zscore",), figures=(None,))
    geometry = Geometry(shape, spacing)
    if refused is None:
        check_working_size(geometry, plan, "scan.nii")
    else:
        with pytest.raises(BadInputError, match=rf"scan\.nii .*{refused}"):
            check_working_size(geometry, plan, "scan.nii")


def test_a_task_beyond_its_modality_takes_images_like_its_own() -> None:
    """Its own images are the measure: a whale's, say."""
    plan = volume_plan(spacing=(15.0, 15.0, 15.0))
    check_working_size(Geometry((50, 20, 20), (20.0, 20.0, 20.0)), plan, "whale.nii")
    with pytest.raises(BadInputError, match="no CT image has"):
        check_working_size(Geometry((50, 20, 20), (50.0, 50.0, 50.0)), plan, "whale.nii")


def test_voxels_far_coarser_than_the_training_s_are_said() -> None:
    plan = next(task for task in Registry().info("starter").tasks if task.task == "head_neck_organs")
    said = {}
    for distance in (5.0, 8.0, 9.0, 15.0):
        image = Image(volume((8, 64, 64)).array, Geometry((8, 64, 64), (distance, 4.0, 4.0)))
        said[distance] = "spacing_unusual" in [finding.code for finding in check_image(image, plan)]
    assert said == {5.0: False, 8.0: False, 9.0: False, 15.0: True}


@pytest.mark.parametrize(("size", "shape", "said"), [(0.1, 40, True), (0.1, 350, False), (1.0, 4, False)])
def test_centimetres_taken_for_millimetres_are_said(size: float, shape: int, said: bool) -> None:
    """Small voxels alone are a good scanner, a small extent alone is a crop; both are a wrong unit."""
    plan = next(task for task in Registry().info("starter").tasks if task.task == "hippocampus")
    image = Image(volume((shape, 8, shape)).array, Geometry((shape, 8, shape), (size, 1.0, size)))
    assert not [finding for finding in check_image(image, plan) if finding.code == "spacing_unusual"]
    image = Image(volume((shape,) * 3).array, Geometry((shape,) * 3, (size,) * 3))
    found = [finding.text for finding in check_image(image, plan) if finding.code == "spacing_unusual"]
    assert [("less than a third" in text) for text in found] == [True] * said


def test_one_voxel_is_an_image() -> None:
    check_working_size(Geometry((1, 1, 1), (1.0, 1.0, 1.0)), volume_plan(), "one.nii")


def test_a_size_that_a_task_of_pixels_does_not_use_is_said_for_the_measures() -> None:
    flat = picture_plan("chest", modality="xray", channels=("xray",), normalisation=("zscore",), figures=(None,))
    image = Image(np.zeros((1, 1, 40, 50), np.uint8), Geometry((1, 40, 50), (1.0, 143.0, 143.0)))
    (found,) = [finding for finding in check_image(image, flat) if finding.code == "spacing_unusual"]
    assert "no X-ray image has, so sizes that are measured are wrong" in found.text


def test_the_depth_of_a_slice_and_photographs_have_no_bound() -> None:
    flat = volume_plan(dimension=2, patch=(1, 64, 64))
    slice_ = Image(volume((1, 32, 32)).array, Geometry((1, 32, 32), (1e4, 2.0, 2.0)))
    assert check_image(slice_, flat) == ()
    assert preprocess(slice_, flat).data.shape == (1, 1, 32, 32)
    photograph = Image(np.zeros((3, 1, 3000, 20), np.uint8), Geometry((1, 3000, 20), (1.0, 1.0, 1.0)), physical=False)
    assert preprocess(photograph, picture_plan()).data.shape == (3, 1, 64, 1)
