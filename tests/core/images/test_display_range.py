"""In which intensities an image is first shown."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.display_range import display_range


def image(array: np.ndarray) -> Image:
    return Image(array[None], Geometry(array.shape, (1.0, 1.0, 1.0)))


def head(rng: np.random.Generator, air: float = 0.0) -> np.ndarray:
    """Air around tissue from 200 to 600, in a tenth of the volume."""
    array = np.full((20, 40, 40), air, np.float32)
    array[4:16, 13:27, 13:27] = rng.uniform(200, 600, (12, 14, 14))
    return array


def test_a_few_bright_voxels_and_much_air_leave_the_anatomy_bright() -> None:
    array = head(np.random.default_rng(0))
    array[10, 20, 20:24] = 9000  # flow in a vessel
    low, high = display_range(image(array)) or (None, None)
    assert low == 0 and high == pytest.approx(598, abs=3)


def test_air_that_is_not_zero_is_black_and_padding_does_not_count() -> None:
    rng = np.random.default_rng(0)
    array = head(rng, air=0.0) + rng.uniform(20, 30, (20, 40, 40)).astype(np.float32)
    assert (display_range(image(array)) or (0, 0))[0] == pytest.approx(20, abs=1)
    array[0, 0, :3] = -30000.0
    low, high = display_range(image(array)) or (0, 0)
    assert 15 < low < 25 and 590 < high < 640


def test_a_volume_of_8_bits_is_stretched_and_a_picture_is_shown_as_it_is() -> None:
    array = (head(np.random.default_rng(0)) / 5).astype(np.uint8)
    assert display_range(image(array)) == (0, 119)
    assert display_range(image(array[10:11])) is None
    low, high = display_range(image(array[10:11].astype(np.uint16) * 100)) or (0, 0)  # an X-ray of 16 bits
    assert low == 0 and 11500 < high <= 12000


def test_a_ct_has_its_soft_tissue_window() -> None:
    array = np.full((8, 20, 20), -1000, np.int16)
    array[:, 5:15, 5:15] = 40
    assert display_range(image(array)) == (-160, 240)


def test_few_values_and_values_that_are_no_numbers() -> None:
    assert display_range(image(np.full((3, 4, 5), 7.0, np.float32))) is None
    assert display_range(image(np.full((3, 4, 5), np.nan, np.float32))) is None
    array = np.zeros((10, 30, 30), np.float32)
    array[5, 5, 5] = 4.0  # one voxel in all
    array[0, 0, 0] = np.nan
    assert display_range(image(array)) == (0, 4)
