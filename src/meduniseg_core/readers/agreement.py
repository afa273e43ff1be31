"""How far readers agree: Dice and surface Dice of each class, over the whole image and slice by slice.

Every pair of readers is compared (`evaluation.metrics`, with its policy for empty masks) and the pairs are averaged,
since no reader is the ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.metrics import dice, surface_dice
from meduniseg_core.events import CancelToken

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class SliceAgreement:
    """One class in one slice in which a reader labels it; the surface Dice compares the outlines within the slice."""

    index: int
    dice: float
    surface_dice: float


@dataclass(frozen=True)
class ClassAgreement:
    """One class: means over all pairs of readers, the pairs themselves, and the slices.

    ``pairs``: Dice and surface Dice of two readers, by their names.
    """

    label: int
    name: str
    dice: float
    surface_dice: float
    pairs: Mapping[tuple[str, str], tuple[float, float]]
    slices: tuple[SliceAgreement, ...]

    @property
    def worst_slice(self) -> SliceAgreement | None:
        """The slice with the lowest Dice; None if nobody labels the class."""
        return min(self.slices, key=lambda one: (one.dice, one.index), default=None)


@dataclass(frozen=True)
class Agreement:
    """The agreement on one case: the readers' names, the classes that any of them labels, and the number of voxels
    that they label differently."""

    readers: tuple[str, ...]
    classes: tuple[ClassAgreement, ...]
    disputed: int

    @property
    def dice(self) -> float:
        """The mean Dice of all classes; 1 if nobody labels anything."""
        return float(np.mean([one.dice for one in self.classes])) if self.classes else 1.0


def agreement(
    readings: Mapping[str, Labels],
    spacing: Sequence[float],
    names: Mapping[int, str],
    tolerance: float = 2.0,
    cancel: CancelToken | None = None,
) -> Agreement:
    """Compare readers.

    Args:
        readings: labels (D, H, W), by the reader's name.
        spacing: (D, H, W) in mm.
        names: label -> class name.
        tolerance: of the surface Dice, in mm.
        cancel: stops between two classes.

    Returns:
        The agreement.

    Raises:
        BadInputError: there are fewer than two readers, or their labels have different shapes.
        CancelledError: ``cancel`` was set.
    """
    check_readings(readings)
    maps = list(readings.values())
    labels = sorted({int(label) for one in maps for label in np.unique(one)} - {0})
    found = []
    for label in labels:
        if cancel is not None:
            cancel.raise_if_cancelled()
        pairs = {
            (first, second): _scores(readings[first], readings[second], label, spacing, tolerance)
            for first, second in combinations(readings, 2)
        }
        whole, outline = np.mean(list(pairs.values()), axis=0)
        slices = tuple(_slices(maps, label, spacing, tolerance))
        name = names.get(label, f"class {label}")
        found.append(ClassAgreement(label, name, float(whole), float(outline), pairs, slices))
    return Agreement(tuple(readings), tuple(found), int(np.count_nonzero(disputed_mask(readings))))


def disputed_mask(readings: Mapping[str, Labels]) -> npt.NDArray[np.bool_]:
    """Find the voxels that not all readers label alike.

    Args:
        readings: labels of one shape, by the reader's name.

    Returns:
        bool, of that shape.
    """
    first, *others = readings.values()
    found = np.zeros(first.shape, dtype=bool)
    for other in others:
        found |= other != first
    return found


def check_readings(readings: Mapping[str, Labels]) -> None:
    """Refuse readings that cannot be compared.

    Args:
        readings: labels, by the reader's name.

    Raises:
        BadInputError: there are fewer than two readers, or their labels have different shapes.
    """
    if len(readings) < 2:
        raise BadInputError("Only one reader has labelled this case; let another one accept it, too.")
    shapes = {one.shape for one in readings.values()}
    if len(shapes) > 1:
        raise BadInputError(f"The readers' labels have different grids {sorted(shapes)}; use labels of one image.")


def _slices(maps: Sequence[Labels], label: int, spacing: Sequence[float], tolerance: float) -> list[SliceAgreement]:
    somewhere = np.any([np.any(one == label, axis=(1, 2)) for one in maps], axis=0)
    found = []
    for index in np.flatnonzero(somewhere):
        scores = [
            _scores(first[index], second[index], label, spacing[1:], tolerance)
            for first, second in combinations(maps, 2)
        ]
        whole, outline = np.mean(scores, axis=0)
        found.append(SliceAgreement(int(index), float(whole), float(outline)))
    return found


def _scores(
    first: Labels, second: Labels, label: int, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    return dice(first, second, label), surface_dice(first, second, label, spacing, tolerance)
