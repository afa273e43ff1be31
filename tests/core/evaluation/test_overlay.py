"""Overlay pictures: square pixels, the fullest slice, the right colours in the right place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.overlay import colour_of, overlay, png_bytes, side_by_side
from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.palette import class_colour


def pair(spacing: tuple[float, float, float] = (3.0, 1.0, 2.0), **kwargs: object) -> tuple[Image, Image]:
    shape = (5, 20, 10)
    ids = np.zeros((1, *shape), dtype=np.uint8)
    ids[0, 1, 2:4, 2:4] = 2
    ids[0, 3, 8:14, 4:8] = 1
    rng = np.random.default_rng(0)
    geometry = Geometry(shape, spacing, **kwargs)  # type: ignore[arg-type]
    return Image(rng.normal(size=(1, *shape)).astype(np.float32), geometry), Image(ids, geometry)


def test_pixels_are_square_in_mm() -> None:
    image, labels = pair()
    assert overlay(image, labels).shape == (20, 20, 3)  # 20 mm x 20 mm at 1 mm
    assert overlay(image, labels, longest_side=100).shape == (100, 100, 3)
    wide, labels = pair((3.0, 1.0, 4.0))
    assert overlay(wide, labels, longest_side=80).shape == (40, 80, 3)


def test_the_fullest_slice_is_shown_and_its_outline_has_the_label_s_colour() -> None:
    image, labels = pair((1.0, 1.0, 1.0))
    picture = overlay(image, labels)
    assert tuple(picture[8, 4]) == class_colour(1)
    assert tuple(overlay(image, labels, slice_index=1)[2, 2]) == class_colour(2)
    assert tuple(overlay(image, labels, {1: (1, 2, 3)})[8, 4]) == (1, 2, 3)
    assert tuple(overlay(image, labels, [(9, 9, 9)], 1)[2, 2]) == (9, 9, 9)
    grey = picture[0, 0]
    assert grey[0] == grey[1] == grey[2]


def test_opacity_zero_leaves_the_inside_grey() -> None:
    image, labels = pair((1.0, 1.0, 1.0))
    inside = overlay(image, labels, opacity=0.0)[10, 5]
    assert inside[0] == inside[1] == inside[2]
    assert tuple(overlay(image, labels, opacity=1.0)[10, 5]) == class_colour(1)


def test_a_volume_is_turned_upright() -> None:
    # stored with rows running to the front: the picture must be flipped so that the front is up
    flipped = ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
    image, labels = pair((1.0, 1.0, 1.0), direction=flipped)
    picture = overlay(image, labels)
    upright = overlay(*pair((1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(picture, upright[::-1])


def test_a_coronal_2d_image_keeps_its_plane() -> None:
    coronal = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    geometry = Geometry((1, 30, 20), (1.0, 1.0, 1.0), direction=coronal)
    image = Image(np.zeros((1, 1, 30, 20), np.int16), geometry)
    assert overlay(image, image).shape == (30, 20, 3)


def test_photographs_keep_their_colours() -> None:
    array = np.zeros((3, 1, 6, 8), dtype=np.uint8)
    array[0], array[1], array[2] = 10, 200, 30
    geometry = Geometry((1, 6, 8), (1.0, 1.0, 1.0))
    photograph = Image(array, geometry, physical=False)
    labels = Image(np.zeros((1, 1, 6, 8), np.uint8), geometry, physical=False)
    assert (overlay(photograph, labels) == (10, 200, 30)).all()


def test_constant_images_and_windows_stay_in_range() -> None:
    image, labels = pair()
    flat = image.with_array(np.full_like(image.array, -1000.0))
    assert (overlay(flat, labels, slice_index=0) == 0).all()
    ramp = image.with_array(np.arange(1000, dtype=np.float32).reshape(1, 5, 20, 10))
    picture = overlay(ramp, labels, slice_index=0, window=(0.0, 50.0))
    assert picture[-1].min() == 255 and picture[0, 0, 0] == 0


def test_what_does_not_fit_is_refused() -> None:
    image, labels = pair()
    with pytest.raises(BadInputError, match="no slice 7"):
        overlay(image, labels, slice_index=7)
    other = Image(np.zeros((1, 1, 2, 2), np.uint8), Geometry((1, 2, 2), (1.0, 1.0, 1.0)))
    with pytest.raises(BadInputError, match="grid"):
        overlay(image, other)


def test_pictures_become_png_and_stand_side_by_side() -> None:
    picture = overlay(*pair())
    row = side_by_side([picture, picture], gap=3)
    assert row.shape == (20, 43, 3)
    np.testing.assert_array_equal(np.asarray(PillowImage.open(io.BytesIO(png_bytes(row)))), row)
    assert colour_of(1, ((1, 2, 3),)) == colour_of(2, ((1, 2, 3),))
