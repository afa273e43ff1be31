"""What an operation changes: voxels and their new labels, so that an editor can do and undo it in one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import Slices


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
        """Make the change on a copy.

        Args:
            labels: the array that the edit was computed for; left as it is.

        Returns:
            The changed copy.
        """
        changed = labels.copy()
        changed[self.where] = self.values
        return changed


def takeable(
    labels: np.ndarray, label: int, locked: Collection[int] = (), over: Collection[int] | None = None
) -> np.ndarray:
    """Find the voxels that may become a class.

    Args:
        labels: Label ids of any shape.
        label: The class that they would become.
        locked: Classes that lose and gain no voxel.
        over: Classes that may be painted over besides the background; None for all.

    Returns:
        A bool array of the same shape.
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
    """Make a class cover chosen voxels of a box.

    New voxels are taken where :func:`takeable` allows it; voxels that the class gives up become background.

    Args:
        labels: the whole map.
        label: the class.
        box: the part of it that may change.
        wanted: bool, of the box's shape: where the class is to lie.
        locked: classes that lose no voxel.
        over: classes that are painted over besides the background; None for all.

    Returns:
        What changes.

    Raises:
        UsageError: the class itself is locked, or it is the background.
    """
    check_editable(label, locked)
    inside = labels[box]
    own = inside == label
    gained = wanted & ~own & takeable(inside, label, locked, over)
    lost = own & ~wanted
    changed = np.nonzero(gained | lost)
    values = np.where(gained[changed], label, 0).astype(labels.dtype)
    return Edit(in_whole(changed, box), values)


def in_whole(places: tuple[np.ndarray, ...], box: Slices) -> tuple[np.ndarray, ...]:
    """Turn indices within a box into indices of the whole array.

    Args:
        places: One index array for each axis.
        box: Where the box lies.

    Returns:
        One index array for each axis.
    """
    return tuple(index + (part.start or 0) for index, part in zip(places, box, strict=True))


def check_editable(label: int, locked: Collection[int]) -> None:
    """Check that a class can be edited: it is neither the background nor locked.

    Args:
        label: The class to be edited.
        locked: The locked classes.

    Raises:
        UsageError: It cannot.
    """
    if label == 0:
        raise UsageError("The background cannot be edited as a class; choose a class first.")
    if label in locked:
        raise UsageError(f"Class {label} is locked; unlock it first.")


def nothing(labels: np.ndarray) -> Edit:
    """Make an edit that changes no voxel.

    Args:
        labels: The array that gives the number of axes and the dtype.

    Returns:
        The edit.
    """
    return Edit(tuple(np.empty(0, np.intp) for _ in labels.shape), np.empty(0, labels.dtype))
