"""Corrections by a click: a false part is removed, a missed spot is grown; a lasso restricts either."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask

from meduniseg_core.editing import Edit, relabel_component
from meduniseg_core.editing.edit import check_editable, in_whole, nothing, takeable
from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import Slices, box_of
from meduniseg_core.interactive.classifier import VoxelClassifier
from meduniseg_core.interactive.taught import ImageFeatures

REACH = 1 / 8
"""How far a click grows by default, of the image's largest extent."""

_LEAST = 1e-3
_SAMPLES = 500  # voxels of each kind that are learned from
_WEIGHT = 100.0  # independent voxels that all together count as; tried on training images only
_DOT = 1.5  # radius of the click, in the finest voxel sides


def remove_at(
    labels: np.ndarray, at: Sequence[int], *, lasso: np.ndarray | None = None, locked: Collection[int] = ()
) -> Edit:
    """Erase the connected part under a click.

    Args:
        labels: (D, H, W) or (H, W).
        at: the voxel clicked on.
        lasso: bool, of the labels' shape: only inside it; None: everywhere.
        locked: classes that lose no voxel.

    Returns:
        What changes.

    Raises:
        UsageError: the voxel lies outside the image or the lasso, is background, or its class is locked.
    """
    _check_inside(labels.shape, at, lasso)
    if lasso is None:
        return relabel_component(labels, at, 0, locked=locked)
    # parts are those within the lasso: it cuts a false part from the organ that it touches
    found = relabel_component(np.where(lasso, labels, 0), at, 0, locked=locked)
    return Edit(found.where, found.values.astype(labels.dtype))


def grow_at(
    features: ImageFeatures,
    labels: np.ndarray,
    at: Sequence[int],
    label: int,
    *,
    reach_mm: float | None = None,
    lasso: np.ndarray | None = None,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Grow a class from a click on a spot that it misses.

    The click and the voxels that have the class already are examples of it. Counterexamples are voxels with another
    label beyond the reach, and voxels within it of other classes than the one that was clicked on (mostly the
    background). The class takes the voxels that are connected with the click and more likely belong to it, by the
    classifier of the features and by a random walk from the click to the border of its reach.

    Args:
        features: of the image.
        labels: (D, H, W).
        at: the voxel clicked on.
        label: the class that grows.
        reach_mm: how far from the click; None: an eighth of the image's largest extent. In pixels for photographs.
        lasso: bool (D, H, W): only inside it, and as far as it goes; None: as far as ``reach_mm``.
        locked: classes that lose no voxel.
        over: classes that the class may grow over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the voxel lies outside the image or the lasso, or the class cannot be edited.
    """
    if labels.shape != features.shape:
        raise UsageError(
            f"The labels have the grid {labels.shape} and the image {features.shape}; choose labels of this image."
        )
    _check_inside(labels.shape, at, lasso)
    check_editable(label, locked)
    spacing = features.spacing
    extents = [size * step for size, step in zip(labels.shape, spacing, strict=True) if size > 1]
    reach = max(extents, default=1.0) * REACH if reach_mm is None else reach_mm
    around = None if lasso is None else box_of(lasso, 2)  # the click lies in the lasso: it is not empty
    box = around or _box_around(labels.shape, at, spacing, reach)
    here = tuple(value - part.start for value, part in zip(at, box, strict=True))
    inside = labels[box]
    grids = np.ogrid[tuple(slice(0, size) for size in inside.shape)]
    squared = sum(((grid - centre) * step) ** 2 for grid, centre, step in zip(grids, here, spacing, strict=True))
    finest = min((step for step, size in zip(spacing, labels.shape, strict=True) if size > 1), default=1.0)
    allowed = np.ones(inside.shape, bool) if lasso is None else np.asarray(lasso[box], bool)
    if lasso is None:
        allowed &= squared <= reach**2
    free = allowed & takeable(inside, label, locked, over)
    dot = (squared <= (_DOT * finest) ** 2) & free
    dot[here] = free[here]
    if not dot.any():
        return nothing(labels)
    if not (free & (inside != label) & ~dot).any():  # nothing but the click can become the class
        where = in_whole(np.nonzero(dot & (inside != label)), box)
        return Edit(where, np.full(where[0].shape, label, labels.dtype))
    seeds = np.full(inside.shape, -1, np.int32)
    seeds[(inside != label) & (inside != inside[here])] = 0
    if lasso is None:  # the line of a lasso is no edge of what is meant: it only says how far a click may go
        seeds[(inside != label) & (~allowed | _rim(allowed))] = 0
    seeds[inside == label] = 1
    seeds[dot] = 1
    classifier = _learned(features, labels, allowed, box, dot, at, label)
    score = classifier.scores(features.parts, box)
    walked = features.walk_grid(box).reach(seeds, (0, 1))
    score = score + np.log(walked + _LEAST)
    wanted = ((score[1] > score[0]) | dot) & free & (inside != label)
    parts, _ = ndimage.label(wanted)
    taken = wanted & np.isin(parts, np.unique(parts[dot & wanted]))
    where = in_whole(np.nonzero(taken), box)
    return Edit(where, np.full(where[0].shape, label, labels.dtype))


def lasso_mask(shape: Sequence[int], corners: np.ndarray, axis: int = 0) -> np.ndarray:
    """Find the voxels of one slice that a line encloses.

    Args:
        shape: of the labels, (D, H, W) or (H, W).
        corners: (n, axes) places on the line, in voxels; all on the slice of the first one. It closes itself.
        axis: along which slices are counted; ignored in 2D.

    Returns:
        A bool array of the shape.

    Raises:
        UsageError: it encloses nothing of the image.
    """
    found = np.zeros(tuple(shape), bool)
    plane, line, inside = found, corners, True
    if len(shape) == 3:
        index = int(np.rint(corners[0, axis]))
        inside = 0 <= index < shape[axis]
        plane = np.moveaxis(found, axis, 0)[index if inside else 0]
        line = np.delete(corners, axis, axis=1)
    if inside:
        plane |= polygon2mask(plane.shape, line)
    if not plane.any():  # the other slices take no memory until somebody looks at them
        raise UsageError("The lasso encloses nothing of the image; draw it around what is to change.")
    return found


def _learned(
    features: ImageFeatures,
    labels: np.ndarray,
    allowed: np.ndarray,
    box: Slices,
    dot: np.ndarray,
    at: Sequence[int],
    label: int,
) -> VoxelClassifier:
    """Learn from the click, from the class's voxels, and from counterexamples.

    These are voxels with another label beyond the reach, mostly background (nearby, background may have been missed as
    well), and voxels within it of other classes than the one that was clicked on. Each group has the same weight: the
    click as much as all voxels that have the class already.
    """
    others = labels != label
    near = others[box] & allowed
    known = near & (labels[box] != labels[tuple(at)])
    beyond = others.copy()
    beyond[box] &= ~allowed
    if not beyond.any() and not known.any():  # everything is within reach: all but the click is a counterexample
        known = near & ~dot
    groups = [
        (in_whole(np.nonzero(dot), box), 1),
        (_sampled(np.flatnonzero(labels == label), labels.shape), 1),
        (_sampled(np.flatnonzero(beyond), labels.shape), 0),
        (in_whole(_sampled(np.flatnonzero(known), known.shape), box), 0),
    ]
    where = tuple(np.concatenate([group[axis] for group, _ in groups]) for axis in range(3))
    values = np.concatenate([np.full(group[0].size, value) for group, value in groups])
    weights = np.concatenate([np.full(group[0].size, 1 / max(1, group[0].size)) for group, _ in groups])
    return VoxelClassifier.fit(features.parts, where, values, weights * (_WEIGHT / weights.sum()))


def _sampled(flat: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    some = flat[np.linspace(0, flat.size - 1, min(flat.size, _SAMPLES)).astype(np.intp)]
    return tuple(np.unravel_index(some, shape))


def _rim(allowed: np.ndarray) -> np.ndarray:
    """The outermost allowed voxels: where a walk from the click has gone too far."""
    padded = np.pad(allowed, [(0, 0) if size == 1 else (1, 1) for size in allowed.shape])
    flat = ndimage.generate_binary_structure(3, 1)
    if allowed.shape[0] == 1:
        flat[0] = flat[2] = False
    inner = ndimage.binary_erosion(padded, flat, border_value=1 if allowed.shape[0] == 1 else 0)
    core = inner[tuple(slice(None) if size == 1 else slice(1, -1) for size in allowed.shape)]
    rim: np.ndarray = allowed & ~core
    return rim


def _box_around(shape: tuple[int, ...], at: Sequence[int], spacing: Sequence[float], reach: float) -> Slices:
    spans = []
    for size, centre, step in zip(shape, at, spacing, strict=True):
        far = int(np.ceil(reach / step)) + 1
        spans.append(slice(max(0, centre - far), min(size, centre + far + 1)))
    return tuple(spans)


def _check_inside(shape: tuple[int, ...], at: Sequence[int], lasso: np.ndarray | None) -> None:
    place = tuple(int(value) for value in at)
    if any(not 0 <= value < size for value, size in zip(place, shape, strict=True)):
        raise UsageError(f"The voxel {place} lies outside the image.")
    if lasso is not None and lasso.shape != shape:
        raise UsageError("The lasso lies on another grid than the labels; draw it on them.")
    if lasso is not None and not lasso[place]:
        raise UsageError("The click lies outside the lasso; click inside it, or remove it.")
