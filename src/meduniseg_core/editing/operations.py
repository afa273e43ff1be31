"""Operations on one class of a label map, 2D ``(H, W)`` or 3D ``(D, H, W)``.

``spacing`` is in mm along the array's axes, so that anisotropic volumes are treated by their real shape. ``locked``
classes lose no voxel; a class gains voxels from the background and from the classes in ``over`` (None: from all). All
raise UsageError for the background and for a locked class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from scipy import ndimage

from meduniseg_core.editing.edit import Edit, check_editable, class_edit, in_whole, nothing
from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import box_of

Spacing = Sequence[float]


def fill_holes(
    labels: np.ndarray,
    label: int,
    *,
    axis: int | None = None,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Fill what a class encloses.

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        axis: None fills cavities of the volume; an axis fills the holes of every slice along it.
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class cannot be edited.
    """
    check_editable(label, locked)
    mask = labels == label
    box = box_of(mask)
    if box is None:
        return nothing(labels)
    own = mask[box]
    if axis is None:
        filled = ndimage.binary_fill_holes(own)
    else:
        filled = np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(own, axis, 0)])
        filled = np.moveaxis(filled, 0, axis)
    return class_edit(labels, label, box, filled, locked, over)


def keep_largest(labels: np.ndarray, label: int, *, locked: Collection[int] = ()) -> Edit:
    """Keep only the largest connected component of a class (corners count as connected).

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        locked: classes that cannot be edited.

    Returns:
        What changes.

    Raises:
        UsageError: the class cannot be edited.
    """
    return _keep(labels, label, locked, lambda sizes: np.arange(sizes.size) == int(sizes.argmax()))


def remove_islands(
    labels: np.ndarray, label: int, smallest: float, spacing: Spacing, *, locked: Collection[int] = ()
) -> Edit:
    """Make small components of a class background.

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        smallest: the size below which components are removed, in mm³ (mm² in 2D).
        spacing: mm along the axes.
        locked: classes that cannot be edited.

    Returns:
        What changes.

    Raises:
        UsageError: the size is negative, or the class cannot be edited.
    """
    if smallest < 0:
        raise UsageError(f"The size of an island cannot be negative ({smallest}).")
    voxel = float(np.prod(_checked(spacing, labels.ndim)))
    return _keep(labels, label, locked, lambda sizes: sizes * voxel >= smallest)


def smooth(
    labels: np.ndarray,
    label: int,
    mm: float,
    spacing: Spacing,
    *,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Smooth a class's surface with a Gaussian; it keeps its place and, nearly, its size.

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        mm: the Gaussian's standard deviation.
        spacing: mm along the axes.
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class cannot be edited, or the spacing does not fit.
    """
    check_editable(label, locked)
    sigma = mm / _checked(spacing, labels.ndim)
    margin = tuple(int(np.ceil(3 * value)) + 1 for value in sigma)
    mask = labels == label
    box = box_of(mask, margin)
    if box is None or mm <= 0:
        return nothing(labels)
    blurred = ndimage.gaussian_filter(mask[box].astype(np.float32), sigma, mode="nearest", truncate=3.0)
    return class_edit(labels, label, box, blurred > 0.5, locked, over)


def grow(
    labels: np.ndarray,
    label: int,
    mm: float,
    spacing: Spacing,
    *,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Grow a class by a distance.

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        mm: the distance, between voxel centres.
        spacing: mm along the axes.
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class cannot be edited, or the spacing does not fit.
    """
    check_editable(label, locked)
    sampling = _checked(spacing, labels.ndim)
    mask = labels == label
    box = box_of(mask, tuple(int(np.ceil(mm / value)) + 1 for value in sampling))
    if box is None or mm <= 0:
        return nothing(labels)
    distance = ndimage.distance_transform_edt(~mask[box], sampling=sampling)
    return class_edit(labels, label, box, distance <= mm * (1 + 1e-9), locked, over)


def shrink(labels: np.ndarray, label: int, mm: float, spacing: Spacing, *, locked: Collection[int] = ()) -> Edit:
    """Shrink a class by a distance; at the image's border it stays.

    Args:
        labels: (D, H, W) or (H, W).
        label: the class.
        mm: the distance, between voxel centres.
        spacing: mm along the axes.
        locked: classes that cannot be edited.

    Returns:
        What changes.

    Raises:
        UsageError: the class cannot be edited, or the spacing does not fit.
    """
    check_editable(label, locked)
    sampling = _checked(spacing, labels.ndim)
    mask = labels == label
    box = box_of(mask, 1)
    if box is None or mm <= 0:
        return nothing(labels)
    distance = ndimage.distance_transform_edt(mask[box], sampling=sampling)
    if mask[box].all():  # nothing outside: scipy's distances mean nothing then
        return nothing(labels)
    return class_edit(labels, label, box, distance > mm * (1 + 1e-9), locked)


def relabel_component(labels: np.ndarray, at: Sequence[int], label: int, *, locked: Collection[int] = ()) -> Edit:
    """Give a connected component another label.

    Args:
        labels: (D, H, W) or (H, W).
        at: a voxel of the component.
        label: its new class; 0 erases it.
        locked: classes that neither change nor may be chosen.

    Returns:
        What changes.

    Raises:
        UsageError: the voxel lies outside or is background, or a class is locked.
    """
    index = tuple(int(value) for value in at)
    if any(not 0 <= value < size for value, size in zip(index, labels.shape, strict=True)):
        raise UsageError(f"The voxel {index} lies outside the image.")
    old = int(labels[index])
    if old == 0:
        raise UsageError("There is background at that place; click on a component of a class.")
    for number in (old, label):
        if number in locked:
            raise UsageError(f"Class {number} is locked; unlock it first.")
    if old == label:
        return nothing(labels)
    mask = labels == old
    box = box_of(mask)
    assert box is not None
    parts = _components(mask[box])
    here = tuple(value - (part.start or 0) for value, part in zip(index, box, strict=True))
    where = in_whole(np.nonzero(parts == parts[here]), box)
    return Edit(where, np.full(where[0].shape, label, labels.dtype))


def _keep(labels: np.ndarray, label: int, locked: Collection[int], chosen: Callable[[np.ndarray], np.ndarray]) -> Edit:
    check_editable(label, locked)
    mask = labels == label
    box = box_of(mask)
    if box is None:
        return nothing(labels)
    parts = _components(mask[box])
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.flatnonzero(chosen(sizes)) + 1
    return class_edit(labels, label, box, np.isin(parts, kept), locked)


def _components(mask: np.ndarray) -> np.ndarray:
    # not cc3d: 4.1.1 joins and invents components of flat bool images at connectivity 8
    parts: np.ndarray = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))[0]
    return parts


def _checked(spacing: Spacing, dimensions: int) -> np.ndarray:
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape != (dimensions,) or not (values > 0).all():
        raise UsageError(f"The spacing {tuple(spacing)} does not fit an image of {dimensions} dimensions.")
    return values
