"""A spherical brush in mm, and painting within a range of intensities."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from meduniseg_core.editing.edit import Edit, in_whole, takeable
from meduniseg_core.errors import UsageError


def sphere(
    labels: np.ndarray,
    centre: Sequence[float],
    radius: float,
    label: int,
    spacing: Sequence[float],
    *,
    image: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Paint a ball around a voxel.

    The voxel under the centre is always painted, however small the radius is. Voxels of locked classes stay, and so do
    voxels of classes that are not in ``over``.

    Args:
        labels: (D, H, W) or (H, W).
        centre: in voxels.
        radius: in mm; voxels whose centres lie within it are painted.
        label: the class; 0 erases.
        spacing: mm along the axes.
        image: intensities on the same grid.
        limits: with ``image``: only voxels whose intensity lies within, ends included, change.
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class is locked.
    """
    if label in locked:
        raise UsageError(f"Class {label} is locked; unlock it first.")
    place, steps = np.asarray(centre, dtype=np.float64), np.asarray(spacing, dtype=np.float64)
    nearest = np.rint(place)
    low = np.maximum(0, np.minimum(nearest, np.ceil(place - radius / steps))).astype(int)
    high = np.minimum(labels.shape, np.maximum(nearest, np.floor(place + radius / steps)) + 1).astype(int)
    box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    grids = np.ogrid[box]
    squared = sum(((grid - c) * s) ** 2 for grid, c, s in zip(grids, place, steps, strict=True))
    hit = np.broadcast_to(squared <= radius**2 * (1 + 1e-9), labels[box].shape).copy()
    under = tuple(int(value) - part.start for value, part in zip(nearest, box, strict=True))
    if all(0 <= index < size for index, size in zip(under, hit.shape, strict=True)):
        hit[under] = True
    inside = labels[box]
    hit &= (inside != label) & takeable(inside, label, locked, over)
    if image is not None and limits is not None:
        hit &= in_range(np.asarray(image[box]), limits)
    where = in_whole(np.nonzero(hit), box)
    return Edit(where, np.full(where[0].shape, label, labels.dtype))


def in_range(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Find the voxels whose intensity lies within limits, ends included.

    Args:
        image: intensities of any shape.
        limits: lowest and highest.

    Returns:
        A bool array.
    """
    return (image >= limits[0]) & (image <= limits[1])
