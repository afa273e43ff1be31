"""Shape-based interpolation: a class drawn on some slices is filled in on the slices between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from meduniseg_core.editing.edit import Edit, check_editable, class_edit, nothing
from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import box_of


def fill_between(
    labels: np.ndarray,
    label: int,
    axis: int,
    spacing: Sequence[float],
    *,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Fill the slices between neighbouring slices on which a class is drawn.

    The signed distances to the outlines of both slices (mm, in plane) are mixed linearly; the class lies where the
    mixture is positive (Raya and Udupa). Slices that hold the class stay as they are.

    Args:
        labels: (D, H, W).
        label: the class.
        axis: the slices' axis.
        spacing: mm along (D, H, W).
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class is on fewer than two slices, the image is 2D, or the class cannot be edited.
    """
    check_editable(label, locked)
    if labels.ndim != 3:
        raise UsageError("Slices can be filled in volumes only; this is a 2D image.")
    mask = np.moveaxis(labels == label, axis, 0)
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    if drawn.size < 2:
        raise UsageError("Draw the class on at least two slices; those between them are filled.")
    gaps = [(int(a), int(b)) for a, b in pairwise(drawn) if b - a > 1]
    plane_box = box_of(mask.any(axis=0), 1)
    if not gaps or plane_box is None:
        return nothing(labels)
    sampling = [float(value) for position, value in enumerate(spacing) if position != axis]
    wanted = mask[:, plane_box[0], plane_box[1]].copy()
    distances = {index: _signed(wanted[index], sampling) for index in sorted({index for gap in gaps for index in gap})}
    for low, high in gaps:
        for index in range(low + 1, high):
            share = (index - low) / (high - low)
            wanted[index] = (1 - share) * distances[low] + share * distances[high] > 0
    box = [slice(0, size) for size in labels.shape]
    others = [position for position in range(3) if position != axis]
    box[others[0]], box[others[1]] = plane_box
    return class_edit(labels, label, tuple(box), np.moveaxis(wanted, 0, axis), locked, over)


def _signed(plane: np.ndarray, sampling: Sequence[float]) -> np.ndarray:
    """Distance to the outline, positive inside; the plane has a margin, so there is an outside."""
    padded = np.pad(plane, 1)
    inside = ndimage.distance_transform_edt(padded, sampling=sampling)
    outside = ndimage.distance_transform_edt(~padded, sampling=sampling)
    signed: np.ndarray = (inside - outside)[1:-1, 1:-1]
    return signed
