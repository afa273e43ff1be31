"""Boxes of voxels, and the box around a mask: used for cropping, segmenting, measuring and editing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open ranges ``((d0, d1), (h0, h1), (w0, w1))`` in voxels."""

Slices = tuple[slice, ...]


def box_of(mask: np.ndarray, margin: tuple[int, ...] | int = 0) -> Slices | None:
    """Find the smallest box around a mask.

    Args:
        mask: bool, of any shape.
        margin: Voxels to widen the box by where there is room: one number, or one per axis.

    Returns:
        The box as one slice per axis; None if the mask is empty.
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
    """Make the box that covers a whole grid.

    Args:
        shape: Voxels along ``(D, H, W)``.

    Returns:
        The box from 0 to ``shape``.
    """
    return (0, int(shape[0])), (0, int(shape[1])), (0, int(shape[2]))


def box_slices(box: Box) -> tuple[slice, slice, slice]:
    """Turn a box into slices.

    Args:
        box: Ranges in voxels.

    Returns:
        Slices of an array ``(D, H, W)``.
    """
    return slice(*box[0]), slice(*box[1]), slice(*box[2])


def box_union(one: Box, other: Box) -> Box:
    """Find the smallest box that holds two boxes.

    Args:
        one: A box.
        other: Another one.

    Returns:
        The box around both.
    """
    d, h, w = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return d, h, w


def box_shape(box: Box) -> tuple[int, int, int]:
    """Measure a box.

    Args:
        box: Ranges in voxels.

    Returns:
        Its size along ``(D, H, W)`` in voxels.
    """
    return box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0]


def piece_boxes(pieces: npt.NDArray[np.integer], around: Slices | None = None) -> list[Box]:
    """Find the boxes of the pieces that `scipy.ndimage.label` numbered.

    Args:
        pieces: Numbers from 1, ``(D, H, W)``; 0 is no piece.
        around: The part of a larger array that was labelled; None for all of it.

    Returns:
        One box per piece, in voxels of the larger array.
    """
    from scipy import ndimage  # boxes are imported at every start

    starts = (0, 0, 0) if around is None else tuple(int(part.start) for part in around)
    found: list[Box] = []
    for where in ndimage.find_objects(pieces):
        d, h, w = ((start + int(p.start), start + int(p.stop)) for start, p in zip(starts, where, strict=True))
        found.append((d, h, w))
    return found
