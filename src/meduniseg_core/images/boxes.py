"""Boxes of voxels, and the box around a mask: what is cropped to, segmented, measured in and edited."""

from __future__ import annotations

import numpy as np

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open ranges ``((d0, d1), (h0, h1), (w0, w1))`` in voxels."""

Slices = tuple[slice, ...]


def box_of(mask: np.ndarray, margin: tuple[int, ...] | int = 0) -> Slices | None:
    """The smallest box around a mask.

    Args:
        mask: bool, of any shape.
        margin: voxels that the box is widened by where there is room, for all axes or for each.

    Returns:
        The box; None if the mask is empty.
    """
    margins = (margin,) * mask.ndim if isinstance(margin, int) else margin
    spans = []
    for axis in range(mask.ndim):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if places.size == 0:
            return None
        low, high = int(places[0]) - margins[axis], int(places[-1]) + 1 + margins[axis]
        spans.append(slice(max(0, low), min(mask.shape[axis], high)))
    return tuple(spans)


def whole_box(shape: tuple[int, ...]) -> Box:
    """The box that covers a grid (D, H, W)."""
    return (0, int(shape[0])), (0, int(shape[1])), (0, int(shape[2]))


def box_slices(box: Box) -> tuple[slice, slice, slice]:
    """``box`` as slices of a (D, H, W) array."""
    return slice(*box[0]), slice(*box[1]), slice(*box[2])


def box_union(one: Box, other: Box) -> Box:
    """The smallest box that holds both."""
    d, h, w = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return d, h, w


def box_shape(box: Box) -> tuple[int, int, int]:
    """Size of ``box`` along (D, H, W)."""
    return box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0]
