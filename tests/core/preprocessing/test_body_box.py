"""The box of the body."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.images.boxes import box_union, whole_box
from meduniseg_core.preprocessing.body import body_box, constant_background, mask_box


def _ct(shape: tuple[int, int, int]) -> np.ndarray:
    return np.full((1, *shape), -1000, dtype=np.int16)


def test_air_around_a_ct_body_is_cut_off_with_a_margin() -> None:
    ct = _ct((20, 60, 60))
    ct[0, :, 20:40, 10:50] = 30
    assert body_box(ct, ("ct",)) == ((0, 20), (17, 43), (7, 53))


def test_both_legs_are_kept_and_specks_are_not() -> None:
    ct = _ct((10, 60, 60))
    ct[0, :, 20:30, 8:18] = 30
    ct[0, :, 20:30, 40:50] = 30
    ct[0, 5, 55, 55] = 30
    box = body_box(ct, ("ct",))
    assert box[1] == (17, 33)
    assert box[2] == (5, 53)


def test_lungs_lie_inside_the_box() -> None:
    ct = _ct((10, 40, 40))
    ct[0, :, 10:30, 10:30] = 30
    ct[0, :, 12:28, 12:28] = -800
    assert body_box(ct, ("ct",))[1:] == ((7, 33), (7, 33))


def test_the_box_of_a_large_ct_never_cuts_the_body() -> None:
    ct = _ct((4, 512, 400))
    ct[0, :, 101:203, 33:301] = 0
    box = body_box(ct, ("ct",))
    assert box[1][0] <= 101 and box[1][1] >= 203
    assert box[2][0] <= 33 and box[2][1] >= 301
    assert box[1][1] - box[1][0] < 130


def test_air_alone_is_left_whole() -> None:
    assert body_box(_ct((4, 5, 6)), ("ct",)) == whole_box((4, 5, 6))


@pytest.mark.parametrize("background", [0.0, -0.73])
def test_a_constant_background_is_cut_off(background: float) -> None:
    mri = np.full((1, 20, 20, 20), background, dtype=np.float32)
    mri[0, 5:10, 6:11, 7:12] = 3
    assert body_box(mri, ("zscore",)) == ((3, 12), (4, 13), (5, 14))


def test_noise_in_the_air_is_no_clear_background() -> None:
    noise = np.random.default_rng(0).normal(size=(1, 8, 8, 8))
    assert constant_background(noise[0]) is None
    assert body_box(noise, ("zscore",)) == whole_box((8, 8, 8))


def test_no_channel_loses_anything_to_another() -> None:
    both = np.zeros((2, 20, 20, 20), dtype=np.float32)
    both[0, 4:6, 4:6, 4:6] = 1
    both[1, 14:16, 4:6, 4:6] = 1
    assert body_box(both, ("zscore", "zscore")) == ((2, 18), (2, 8), (2, 8))


def test_boxes_join_and_clip_at_the_border() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[0, 2, 4] = True
    assert mask_box(mask, margin=1) == ((0, 2), (1, 4), (3, 5))
    assert box_union(((0, 2), (1, 4), (3, 5)), ((1, 3), (0, 2), (4, 5))) == ((0, 3), (0, 4), (3, 5))
