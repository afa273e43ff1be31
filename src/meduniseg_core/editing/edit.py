"""What an operation changes: voxels and their new labels, so that an editor can do, and undo, it in one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from meduniseg_core.errors import UsageError

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Edit:
    """``labels[where] = values``; ``where`` is one index array per axis."""

    where: tuple[np.ndarray, ...]
    values: np.ndarray

    @property
    def count(self) -> int:
        """Number of voxels that change."""
        return int(self.values.size)

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """A changed copy of ``labels``."""
        changed = labels.copy()
        changed[self.where] = self.values
        return changed


def takeable(
    labels: np.ndarray, label: int, locked: Collection[int] = (), over: Collection[int] | None = None
) -> np.ndarray:
    """Where voxels (an array of any shape) may become ``label``.

    None of a ``locked`` class may change, and none may become one. ``over``: the classes that are painted over besides
    the background; None for all of them.
    """
    if label in locked:
        return np.zeros(labels.shape, dtype=bool)
    free = ~np.isin(labels, list(locked))
    if over is not None:
        free &= np.isin(labels, [0, label, *over])
    return free


def class_edit(
    labels: np.ndarray,
    label: int,
    box: Slices,
    wanted: np.ndarray,
    locked: Collection[int] = (),
    over: Collection[int] | None = None,
) -> Edit:
    """Make ``label`` cover ``wanted`` within ``box``: new voxels are taken where :func:`takeable` allows it, voxels it
    gives up become background. UsageError where ``label`` itself is locked or is the background."""
    check_editable(label, locked)
    inside = labels[box]
    own = inside == label
    gained = wanted & ~own & takeable(inside, label, locked, over)
    lost = own & ~wanted
    changed = np.nonzero(gained | lost)
    values = np.where(gained[changed], label, 0).astype(labels.dtype)
    return Edit(in_whole(changed, box), values)


def in_whole(places: tuple[np.ndarray, ...], box: Slices) -> tuple[np.ndarray, ...]:
    """Places within ``box`` as places of the whole array."""
    return tuple(index + (part.start or 0) for index, part in zip(places, box, strict=True))


def check_editable(label: int, locked: Collection[int]) -> None:
    """UsageError for the background and for locked classes."""
    if label == 0:
        raise UsageError("The background cannot be edited as a class; choose a class first.")
    if label in locked:
        raise UsageError(f"Class {label} is locked; unlock it first.")


def box_of(mask: np.ndarray, margin: tuple[int, ...] | int = 0) -> Slices | None:
    """The smallest box around ``mask``, widened by ``margin`` voxels where there is room; None if it is empty."""
    margins = (margin,) * mask.ndim if isinstance(margin, int) else margin
    spans = []
    for axis in range(mask.ndim):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if places.size == 0:
            return None
        low, high = int(places[0]) - margins[axis], int(places[-1]) + 1 + margins[axis]
        spans.append(slice(max(0, low), min(mask.shape[axis], high)))
    return tuple(spans)


def nothing(labels: np.ndarray) -> Edit:
    """An edit that changes no voxel."""
    return Edit(tuple(np.empty(0, np.intp) for _ in labels.shape), np.empty(0, labels.dtype))
