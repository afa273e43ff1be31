"""Distances and areas of drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.measuring import Measurement, measure, measurements_csv

SQUARE = np.array([(0, 0), (0, 4), (3, 4), (3, 0)], float)


def test_a_line_is_as_long_as_its_parts() -> None:
    found = measure([(0, 0, 0), (0, 3, 4), (12, 3, 4)], "line", "mm")
    assert (found.length, found.area, found.text) == (17.0, None, "17.0 mm")


def test_an_outline_has_an_area_and_a_perimeter() -> None:
    found = measure(SQUARE, "outline", "px")
    assert (found.length, found.area, found.text) == (14.0, 12.0, "12.0 px²")
    notched = [(0, 0), (0, 4), (4, 4), (4, 0), (2, 2)]  # not convex
    assert measure(notched, "outline", "mm").area == pytest.approx(12)


@given(turn=st.integers(0, 359), place=st.tuples(*[st.floats(-1e4, 1e4)] * 3), first=st.integers(0, 3))
def test_where_and_how_it_lies_does_not_matter(turn: int, place: tuple[float, float, float], first: int) -> None:
    angle = np.deg2rad(turn)
    plane = np.array([(np.cos(angle), np.sin(angle), 0), (0.6 * -np.sin(angle), 0.6 * np.cos(angle), 0.8)])
    for order in (1, -1):
        corners = np.roll(SQUARE, first, axis=0)[::order] @ plane + place
        found = measure(corners, "outline", "mm")
        assert found.area == pytest.approx(12, rel=1e-6) and found.length == pytest.approx(14, rel=1e-6)


def test_an_outline_that_crosses_itself_is_refused() -> None:
    bow_tie = [(5, 0, 0), (5, 4, 4), (5, 4, 0), (5, 0, 4)]
    with pytest.raises(BadInputError, match="crosses itself"):
        measure(bow_tie, "outline", "mm")


def test_places_given_twice_and_closed_outlines_are_taken() -> None:
    doubled = [*SQUARE[:2], SQUARE[1], *SQUARE[2:], SQUARE[0]]
    assert measure(doubled, "outline", "mm").area == pytest.approx(12)
    assert measure([(1, 1)] * 3, "outline", "mm").area == 0


def test_a_circle_as_an_ellipse_and_as_an_outline() -> None:
    corners = [(0, 0), (0, 10), (10, 10), (10, 0)]
    found = measure(corners, "ellipse", "mm")
    assert found.area == pytest.approx(25 * np.pi) and found.length == pytest.approx(10 * np.pi)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    drawn = measure(5 * np.stack([np.sin(angles), np.cos(angles)], axis=1), "outline", "mm")
    assert drawn.area == pytest.approx(found.area, rel=1e-3) and drawn.length == pytest.approx(found.length, rel=1e-3)


@pytest.mark.parametrize(
    ("points", "shape"),
    [([(0, 0)], "line"), ([(0, 0), (1, 1)], "outline"), ([(0, np.nan), (1, 1)], "line"), ([1, 2, 3], "line")],
)
def test_what_is_no_shape_is_refused(points: list[object], shape: str) -> None:
    with pytest.raises(BadInputError, match="draw it again"):
        measure(points, shape, "mm")  # type: ignore[arg-type]


def test_measurements_become_csv() -> None:
    rows = [("slice 7", Measurement(17.25, None, "mm")), ("slice 9", Measurement(14.0, 12.0, "mm"))]
    assert measurements_csv('a "scan", left.nii.gz', rows).splitlines() == [
        "image,number,where,kind,length,area,unit",
        '"a ""scan"", left.nii.gz",1,slice 7,distance,17.25,,mm',
        '"a ""scan"", left.nii.gz",2,slice 9,area,14,12,mm',
    ]
