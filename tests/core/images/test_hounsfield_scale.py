"""A CT in other grey levels than Hounsfield units: recognised by its histogram where its scale reaches down to air."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from meduniseg_core.checks.image_checks import check_image, in_the_tasks_window
from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.images.hounsfield_scale import hounsfield_scale
from meduniseg_core.preprocessing import RawDataset, TaskPlan

OWN = (-38.0, 312.0)
TOLERANCE = 45.0  # HU, for soft tissue


def windowed(low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda hu: (255 * np.clip((hu - low) / (high - low), 0, 1)).round().astype(np.uint8)


SCALED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0 to 1": lambda hu: ((hu - hu.min()) / np.ptp(hu)).astype(np.float32),
    "-1 to 1": lambda hu: (2 * (hu - hu.min()) / np.ptp(hu) - 1).astype(np.float32),
    "standardised": lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32),
    "times 10": lambda hu: (hu * 10).astype(np.int16),
    "16 bits": lambda hu: (65535 * (hu - hu.min()) / np.ptp(hu)).astype(np.uint16),
    "8 bits": lambda hu: windowed(hu.min(), hu.max())(hu),
    "8 bits of 12": windowed(-1024, 3071),
    "8 bits, -1000 to 1000": windowed(-1000, 1000),
}
NARROW = {"own": OWN, "soft tissue": (-160.0, 240.0), "brain": (0.0, 80.0), "bone": (-450.0, 1050.0)}


def abdomen(shape: tuple[int, int, int] = (1, 192, 192), seed: int = 0) -> np.ndarray:
    """HU of a slice: air, a ring of fat, muscle, organs with contrast, bone and gas, blurred as a scanner does."""
    rng = np.random.default_rng(seed)
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[y**2 / 0.5 + x**2 / 0.8 < 1] = -105
    hu[y**2 / 0.33 + x**2 / 0.55 < 1] = 50
    hu[(y - 0.1) ** 2 + (x + 0.35) ** 2 < 0.06] = 115
    hu[(y + 0.2) ** 2 + (x - 0.2) ** 2 < 0.02] = -105
    hu[(y - 0.4) ** 2 + x**2 < 0.01] = 500
    hu[(y + 0.25) ** 2 + (x + 0.1) ** 2 < 0.006] = -950
    return ndimage.gaussian_filter(hu, (0, 0.8, 0.8)) + rng.normal(0, 14, shape)


def picture_task(window: tuple[float, float] | None = OWN) -> TaskPlan:
    return TaskPlan(
        task="abdomen",
        modality="ct",
        dimension=2,
        channels=("ct",),
        classes=("liver",),
        longest_side=160,
        patch=(1, 160, 160),
        normalisation=("zscore",),
        figures=(None,),
        hu_window=window,
    )


def image_of(array: np.ndarray) -> Image:
    return Image(array[None], Geometry(array.shape, (1.0, 1.0, 1.0)), physical=False)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_scaled_ct_is_brought_to_the_task_s_window(name: str, seed: int) -> None:
    hu = abdomen(seed=seed)
    image, plan = image_of(SCALED[name](hu)), picture_task()
    found = in_the_tasks_window(image, plan).array[0]
    assert abs(float(np.median(found[(hu > 30) & (hu < 70)])) - 50) < TOLERANCE
    assert OWN[0] <= found.min() and found.max() <= OWN[1]
    (finding,) = (f for f in check_image(image, plan) if f.code.startswith("intensity"))
    assert finding.code == "intensity_window" and finding.level == "warning" and "histogram" in finding.text


@pytest.mark.parametrize("name", NARROW)
def test_a_picture_in_a_narrow_window_is_left_as_it_is(name: str) -> None:
    for seed in range(3):
        image = image_of(windowed(*NARROW[name])(abdomen(seed=seed)))
        assert in_the_tasks_window(image, picture_task()) is image


def test_a_ct_stored_1024_too_high_is_brought_back_exactly() -> None:
    hu = abdomen().round()
    image, plan = image_of((hu + 1024).clip(0).astype(np.uint16)), picture_task()
    assert np.array_equal(in_the_tasks_window(image, plan).array[0], hu.clip(*OWN))
    (finding,) = (f for f in check_image(image, plan) if f.code.startswith("intensity"))
    assert "1024 too high" in finding.text and finding.level == "warning"


@pytest.mark.parametrize("window", [None, (-1000.0, 1000.0)])
def test_pictures_of_a_task_that_may_have_learned_from_them_are_not_touched(window: tuple[float, float] | None) -> None:
    image = image_of(windowed(-1000, 1000)(abdomen()))
    assert in_the_tasks_window(image, picture_task(window)) is image


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 40, 40), np.uint8),
        np.full((1, 40, 40), 7.0),
        np.arange(64.0).reshape(1, 8, 8),
        np.random.default_rng(0).uniform(0, 255, (1, 200, 200)).astype(np.uint8),
        np.random.default_rng(0).gamma(2.0, 20.0, (1, 200, 200)).astype(np.float32),
    ],
)
def test_what_is_no_ct_is_not_taken_for_one(array: np.ndarray) -> None:
    assert hounsfield_scale(array, OWN) is None


@pytest.mark.real
def test_a_real_ct_is_recognised_and_training_pictures_are_not(shared_data: Path) -> None:
    hu = read_image(shared_data / "Dataset301_Geometry" / "ct_sm.nii.gz").array[0].astype(np.float64)
    for name, change in SCALED.items():
        scale = hounsfield_scale(change(hu), OWN)
        assert scale is not None, name
        tissue = scale(change(hu))[(hu > 30) & (hu < 70)]
        assert abs(float(np.median(tissue)) - 50) < TOLERANCE, name
    for case in RawDataset.open(shared_data / "Dataset110_AbdomenCT").cases("Tr")[::3]:
        assert hounsfield_scale(read_image(case.images).array[0], OWN) is None, case.case
