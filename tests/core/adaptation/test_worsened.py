"""Worse copies: of the image's type and range, reproducible, their labels where they were."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.adaptation.worsened import worsened
from meduniseg_core.images import Geometry, Image


def pair(dtype: type, shape: tuple[int, int, int, int] = (3, 1, 40, 50)) -> tuple[Image, Image]:
    rng = np.random.default_rng(0)
    low, high = (0, 255) if dtype is np.uint8 else (-1000, 2000)
    geometry = Geometry(shape[1:], (1.0, 2.0, 2.0), origin=(5.0, 6.0, 7.0))
    image = Image(rng.integers(low, high, shape).astype(dtype), geometry)
    labels = np.zeros((1, *shape[1:]), dtype=np.uint8)
    labels[0, :, 10:20, 20:35] = 1
    return image, Image(labels, geometry)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_copies_keep_type_and_range_and_every_kind_occurs(dtype: type) -> None:
    image, labels = pair(dtype)
    kinds = set()
    for seed in range(60):
        copy, masks, kind = worsened(image, labels, np.random.default_rng(seed))
        kinds.add(kind)
        assert copy.array.dtype == image.array.dtype
        assert copy.array.min() >= image.array.min()
        assert copy.array.max() <= image.array.max()
        assert np.isfinite(copy.array).all()
        assert copy.geometry == masks.geometry
        if kind not in ("crop", "beside"):
            assert masks is labels
            assert not np.array_equal(copy.array, image.array)
    assert kinds == {"blur", "noise", "curve", "contrast", "device", "covered", "crop", "beside"}


def test_the_same_seed_gives_the_same_copy() -> None:
    image, labels = pair(np.uint8)
    one, other = (worsened(image, labels, np.random.default_rng(7))[0] for _ in range(2))
    assert np.array_equal(one.array, other.array)


def test_a_crop_lies_where_it_was_cut() -> None:
    image, labels = pair(np.int16, (1, 4, 40, 50))
    for seed in range(40):
        copy, masks, kind = worsened(image, labels, np.random.default_rng(seed))
        if kind not in ("crop", "beside"):
            continue
        shift = np.linalg.inv(image.geometry.affine) @ [*copy.geometry.origin, 1.0]
        d, h, w = np.rint(shift[:3]).astype(int)
        _, depth, height, width = copy.array.shape
        assert np.array_equal(copy.array, image.array[:, d : d + depth, h : h + height, w : w + width])
        assert np.array_equal(masks.array, labels.array[:, d : d + depth, h : h + height, w : w + width])
        if kind == "beside":
            assert not masks.array.any(), "there is room beside so small a class"


def test_a_constant_image_is_no_trouble() -> None:
    image, labels = pair(np.uint8)
    flat = image.with_array(np.full_like(image.array, 7))
    for seed in range(30):
        copy, _, _ = worsened(flat, labels, np.random.default_rng(seed))
        assert np.isfinite(copy.array).all()
