"""Filling polygons: centres by the even-odd rule, exactly, with holes, keyholes and neighbours that share an edge."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import points_in_poly

from meduniseg_core.images.formats.dicom_contours import inside_polygons

SHAPE = (23, 31)


@pytest.mark.parametrize("seed", range(5))
def test_centres_inside_are_those_of_another_program(seed: int) -> None:
    random = np.random.default_rng(seed)
    polygon = random.uniform((-3.0, -3.0), (26.0, 34.0), size=(9, 2))  # crosses itself and the border
    centres = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 2)
    expected = points_in_poly(centres, polygon).reshape(SHAPE)
    assert np.array_equal(inside_polygons([polygon], SHAPE), expected)


def test_neighbours_that_share_an_edge_share_no_pixel_and_leave_none() -> None:
    """Corners and edges lie on centres, where an inexact rule counts a pixel twice or never."""
    corners = np.array([(2.0, 3.0), (2.0, 20.0), (17.0, 20.0), (17.0, 3.0)])
    middle = np.array([9.0, 11.0])
    parts = [np.array([corners[n], corners[(n + 1) % 4], middle]) for n in range(4)]
    count = sum(inside_polygons([part], SHAPE).astype(int) for part in parts)
    assert np.array_equal(count, inside_polygons([corners], SHAPE).astype(int))
    assert count.sum() == 15 * 17


def test_a_keyhole_is_the_hole_that_it_is_joined_to() -> None:
    outer = [(2.5, 2.5), (2.5, 20.5), (15.5, 20.5), (15.5, 2.5)]
    inner = [(5.5, 5.5), (9.5, 5.5), (9.5, 12.5), (5.5, 12.5)]
    keyhole = np.array([*outer, outer[0], *inner, inner[0]])  # the channel is passed there and back
    both = inside_polygons([np.array(outer), np.array(inner)], SHAPE)
    assert np.array_equal(inside_polygons([keyhole], SHAPE), both)
    assert both.sum() == 13 * 18 - 4 * 7
