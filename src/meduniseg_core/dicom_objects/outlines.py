"""Outlines of the pixels of a class, as closed polygons; holes are joined to their outline by a channel (a keyhole)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Draw the outlines of a mask, halfway between pixels inside and outside.

    Every pixel's centre lies inside or outside the polygons exactly as in the mask. Pixels that touch at a corner alone
    belong to different polygons. A hole is part of its outline's polygon: from the nearest point of the outline to the
    hole, round it, and back the same way.

    Args:
        mask: bool ``(rows, columns)``.

    Returns:
        One polygon ``(N, 2)`` (row, column of its corners, without repeating the first) for each connected part.
    """
    parts, _ = ndimage.label(mask)
    return [_outline(parts[box] == number, box) for number, box in enumerate(ndimage.find_objects(parts), start=1)]


def _outline(part: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    padded = np.pad(part, 1).astype(np.float64)
    rings = [ring[:-1] for ring in find_contours(padded, 0.5, fully_connected="low")]
    rings.sort(key=lambda ring: -float(np.prod(np.ptp(ring, axis=0))))
    outer, holes = rings[0], rings[1:]
    while holes:
        nearest = [_nearest(outer, hole) for hole in holes]
        chosen = min(range(len(holes)), key=lambda index: nearest[index][2])
        outer = _joined(outer, holes.pop(chosen), nearest[chosen][0], nearest[chosen][1])
    corners: np.ndarray = outer + np.array([box[0].start - 1, box[1].start - 1])
    return corners


def _nearest(outer: np.ndarray, hole: np.ndarray) -> tuple[int, int, float]:
    """The points of both rings that are nearest to each other, and their distance squared."""
    best = (0, 0, np.inf)
    for index, point in enumerate(hole):  # a row at a time: rings have thousands of points
        distances = ((outer - point) ** 2).sum(axis=1)
        at = int(np.argmin(distances))
        if distances[at] < best[2]:
            best = (at, index, float(distances[at]))
    return best


def _joined(outer: np.ndarray, hole: np.ndarray, at: int, begin: int) -> np.ndarray:
    around = np.roll(hole, -begin, axis=0)
    return np.concatenate([outer[: at + 1], around, around[:1], outer[at:]])
