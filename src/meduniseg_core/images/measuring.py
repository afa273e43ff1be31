"""Distances and areas of what was drawn on an image: lines, outlines and ellipses, in mm or, without a size, pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from meduniseg_core.errors import BadInputError

Shape = Literal["line", "outline", "ellipse"]
"""``line`` is open, with two or more points; ``ellipse`` is given by the corners of the rectangle around it."""

Unit = Literal["mm", "px"]

_SAME = 1e-9  # of the outline's extent: nearer is the same point


@dataclass(frozen=True)
class Measurement:
    """The length of a line, or the area and the perimeter of what an outline encloses.

    Attributes:
        length: the line's length or the outline's perimeter, in ``unit``.
        area: in the square of ``unit``; None for a line.
        unit: mm, or px for images without a size.
    """

    length: float
    area: float | None
    unit: Unit

    @property
    def text(self) -> str:
        """The value that is asked for, with its unit: the area of an outline, else the length."""
        if self.area is None:
            return f"{self.length:,.1f} {self.unit}"
        return f"{self.area:,.1f} {self.unit}²"


def measure(points: npt.ArrayLike, shape: Shape, unit: Unit) -> Measurement:
    """Measure what was drawn.

    Args:
        points: (n, axes), 2 or 3 axes, in ``unit``: of a line at least two, of an outline at least three, of an
            ellipse the four corners of the rectangle around it, in order. An outline closes by itself.
        shape: what the points are.
        unit: the unit of the points.

    Returns:
        The length, or area and perimeter. The area of an outline in space is that of its plane.

    Raises:
        BadInputError: too few points, points that are not finite, or an outline that crosses itself: it encloses no
            single area.
    """
    places = np.asarray(points, dtype=float)
    least = {"line": 2, "outline": 3, "ellipse": 4}[shape]
    if places.ndim != 2 or places.shape[1] not in (2, 3) or len(places) < least or not np.isfinite(places).all():
        raise BadInputError(f"A measurement needs at least {least} points in the image; draw it again.")
    if shape == "line":
        return Measurement(_length(places), None, unit)
    if shape == "ellipse":
        return _ellipse(places, unit)
    if _crosses_itself(places):
        raise BadInputError("The outline crosses itself and encloses no single area; draw it without crossing.")
    return Measurement(_length(np.vstack([places, places[:1]])), _area(places), unit)


def measurements_csv(image: str, rows: Sequence[tuple[str, Measurement]]) -> str:
    """Write measurements as CSV.

    Args:
        image: the image's name.
        rows: where each measurement was made, such as the slice, and the measurement.

    Returns:
        The text, with a header. Numbers have a decimal point and six digits; a line has no area.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "number", "where", "kind", "length", "area", "unit"])
    for number, (where, one) in enumerate(rows, start=1):
        area = "" if one.area is None else f"{one.area:.6g}"
        kind = "distance" if one.area is None else "area"
        writer.writerow([image, number, where, kind, f"{one.length:.6g}", area, one.unit])
    return stream.getvalue()


def _length(places: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def _area(places: np.ndarray) -> float:
    """Half the length of the sum of cross products of neighbours: the shoelace formula, in any plane."""
    spatial = _in_space(places - places.mean(axis=0))
    return float(np.linalg.norm(np.cross(spatial, np.roll(spatial, -1, axis=0)).sum(axis=0)) / 2)


def _in_space(places: np.ndarray) -> np.ndarray:
    return places if places.shape[1] == 3 else np.pad(places, ((0, 0), (1, 0)))


def _ellipse(corners: np.ndarray, unit: Unit) -> Measurement:
    """Ramanujan's second approximation of the perimeter (wrong by less than 0.05 % up to axes of 1 to 5)."""
    one, other = (float(np.linalg.norm(corners[k + 1] - corners[k])) / 2 for k in (0, 1))
    if one + other == 0:
        return Measurement(0.0, 0.0, unit)
    h = ((one - other) / (one + other)) ** 2
    perimeter = np.pi * (one + other) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    return Measurement(float(perimeter), float(np.pi * one * other), unit)


def _crosses_itself(places: np.ndarray) -> bool:
    """Whether two sides of a closed outline that are not neighbours cross, seen in its plane."""
    extent = float(np.ptp(places, axis=0).max())
    apart = np.linalg.norm(places - np.roll(places, 1, axis=0), axis=1) > _SAME * extent
    count = int(apart.sum())  # drawn by hand, a place may be given twice
    if count < 4:
        return False
    start = _in_its_plane(places[apart])
    end = np.roll(start, -1, axis=0)
    first, second = np.triu_indices(count, k=2)
    neighbours = (first == 0) & (second == count - 1)
    first, second = first[~neighbours], second[~neighbours]
    least = _SAME * extent**2
    sides = [
        _side(start[first], end[first], start[second]),
        _side(start[first], end[first], end[second]),
        _side(start[second], end[second], start[first]),
        _side(start[second], end[second], end[first]),
    ]
    one, other, third, fourth = (np.sign(np.where(np.abs(side) > least, side, 0)) for side in sides)
    return bool(np.any((one * other < 0) & (third * fourth < 0)))


def _in_its_plane(places: np.ndarray) -> np.ndarray:
    """Two coordinates of each place, in the plane that fits them best."""
    moved: np.ndarray = places - places.mean(axis=0)
    if places.shape[1] == 2:
        return moved
    plane: np.ndarray = moved @ np.linalg.svd(moved, full_matrices=False)[2][:2].T
    return plane


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """On which side of a directed line a point lies, by the sign."""
    along, across = end - start, point - start
    side: np.ndarray = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    return side
