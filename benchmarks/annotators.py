"""Simulated annotators: one fixed rule for the next stroke, click or brush stroke, given labels and the reference.

**Stroke** (`first_strokes`, `next_stroke`). At first one for every class of the reference, the background among them:
in its largest connected part. Then one at a time: of all regions where voxels of one class carry another label, the
largest. In a volume a region is one slice's part, on the slice where the class misses most. The stroke follows the
region's medial axis (the longest path of its skeleton), is as wide as the panel's brush (1 % of the longest side, at
least 3 voxels), at most a quarter of the longest side long, cut around the thickest place, and stays in the region.

**Click** (`next_click`). The deepest voxel of the largest such region. A false region that is less than half of the
part that would go with it is first lassoed, two voxels outside its edge.

**Brush stroke** (`painted`), for painting by hand. The same region; a brush of 5 % of the longest side is drawn along
the whole medial axis, and only the region is painted. This favours painting: nobody's brush never leaves the region.

A rule, not a model of people: nothing is drawn by chance, so that every method meets the same annotator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.graph import MCP
from skimage.morphology import skeletonize

from meduniseg_core.interactive import Stroke

LONGEST = 1 / 4
"""Of the image's longest side."""

_BRUSH, _LARGE_BRUSH = 1 / 100, 1 / 20
_LEAST_WIDTH = 3


@dataclass(frozen=True, eq=False)
class Region:
    """A connected region of one slice, that is of class ``label`` in the reference.

    ``mask`` (bool) is the smallest box around it with a margin of one pixel; ``corner``: where that begins in (H, W).
    """

    depth: int
    mask: np.ndarray
    corner: tuple[int, int]
    label: int
    size: int


@dataclass(frozen=True, eq=False)
class Click:
    """A voxel (d, h, w), the class that it is of in the reference, and the lasso (bool (D, H, W)) around it."""

    at: tuple[int, int, int]
    label: int
    lasso: np.ndarray | None = None


def first_strokes(reference: np.ndarray) -> list[Stroke]:
    """One stroke for every class of the reference (D, H, W)."""
    found = []
    for label in np.unique(reference):
        region = _largest(reference == label, int(label))
        assert region is not None
        found.append(_stroke(region, reference.shape))
    return found


def next_stroke(reference: np.ndarray, labels: np.ndarray, drawn: np.ndarray) -> Stroke | None:
    """The stroke in the largest wrong region; None where nothing is wrong.

    ``drawn`` (bool) are the voxels of former strokes, where no stroke is drawn again.
    """
    region = _worst(reference, labels, ~drawn)
    return None if region is None else _stroke(region, reference.shape)


def next_click(reference: np.ndarray, labels: np.ndarray, tried: set[tuple[int, int, int]]) -> Click | None:
    """The click into the largest wrong region, but not where one was ``tried`` before; None where nothing is wrong."""
    free = np.ones(reference.shape, bool)
    for at in tried:
        free[at] = False
    region = _worst(reference, labels, free)
    if region is None:
        return None
    depths = ndimage.distance_transform_edt(region.mask)
    row, column = np.unravel_index(int(depths.argmax()), depths.shape)
    at = region.depth, int(row) + region.corner[0], int(column) + region.corner[1]
    return Click(at, region.label, None if region.label else _lasso(reference, labels, region, at))


def painted(reference: np.ndarray, labels: np.ndarray) -> Stroke | None:
    """What one stroke of a large brush paints by hand; None where nothing is wrong."""
    region = _worst(reference, labels, np.ones(reference.shape, bool))
    if region is None:
        return None
    return _as_stroke(region, _swept(region.mask, _medial_axis(region.mask), _LARGE_BRUSH * max(reference.shape)))


def _lasso(reference: np.ndarray, labels: np.ndarray, region: Region, at: tuple[int, int, int]) -> np.ndarray | None:
    """Around what is false, where the part that it belongs to is mostly right."""
    parts, _ = ndimage.label(labels == labels[at])
    part = parts == parts[at]
    if (reference[part] != 0).mean() <= 1 / 2:
        return None
    lasso = np.zeros(labels.shape, bool)
    lasso[region.depth][_places(region, region.mask)] = True
    lasso[region.depth] = ndimage.binary_dilation(lasso[region.depth], iterations=2)
    return lasso


def _worst(reference: np.ndarray, labels: np.ndarray, free: np.ndarray) -> Region | None:
    wrong = (labels != reference) & free
    regions = [_largest(wrong & (reference == label), int(label)) for label in np.unique(reference)]
    return max((one for one in regions if one is not None), key=lambda one: one.size, default=None)


def _largest(where: np.ndarray, label: int) -> Region | None:
    """The largest part of the slice that has most of it."""
    depth = int(where.sum(axis=(1, 2)).argmax())
    parts, count = ndimage.label(where[depth])
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    rows, columns = ndimage.find_objects(parts, max_label=largest)[largest - 1]
    mask = np.pad(parts[rows, columns] == largest, 1)
    return Region(depth, mask, (rows.start - 1, columns.start - 1), label, int(sizes[largest]))


def _stroke(region: Region, shape: tuple[int, ...]) -> Stroke:
    inside = region.mask
    depths = ndimage.distance_transform_edt(inside)
    line = _medial_axis(inside)
    longest = max(1, round(LONGEST * max(shape)))
    if len(line) > longest:
        thickest = int(depths[tuple(line.T)].argmax())
        first = min(max(0, thickest - longest // 2), len(line) - longest)
        line = line[first : first + longest]
    return _as_stroke(region, _swept(inside, line, max(_LEAST_WIDTH, round(_BRUSH * max(shape)))))


def _swept(inside: np.ndarray, line: np.ndarray, width: float) -> np.ndarray:
    """What a brush of this width reaches along a line, within the region."""
    drawn = np.zeros_like(inside)
    drawn[tuple(line.T)] = True
    found: np.ndarray = (ndimage.distance_transform_edt(~drawn) <= width / 2) & inside
    return found


def _as_stroke(region: Region, mask: np.ndarray) -> Stroke:
    rows, columns = _places(region, mask)
    return Stroke((np.full_like(rows, region.depth), rows, columns), region.label)


def _places(region: Region, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(mask)
    return rows + region.corner[0], columns + region.corner[1]


def _medial_axis(inside: np.ndarray) -> np.ndarray:
    """The longest path of the skeleton, (n, 2), from end to end."""
    skeleton = skeletonize(inside)
    if not skeleton.any():
        depths = ndimage.distance_transform_edt(inside)
        skeleton[np.unravel_index(int(depths.argmax()), depths.shape)] = True
    places = np.argwhere(skeleton)
    costs = np.where(skeleton, 1.0, -1.0)  # negative: no way
    end = _farthest(costs, places[0])[1]
    walker, other = _farthest(costs, end)
    return np.array(walker.traceback(tuple(other)))


def _farthest(costs: np.ndarray, start: np.ndarray) -> tuple[MCP, np.ndarray]:
    walker = MCP(costs, fully_connected=True)
    reached, _ = walker.find_costs([tuple(int(value) for value in start)])
    reached = np.where(np.isfinite(reached), reached, -1)
    return walker, np.array(np.unravel_index(int(reached.argmax()), reached.shape))
