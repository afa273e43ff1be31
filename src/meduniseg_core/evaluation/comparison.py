"""Comparing two label maps of one image, class by class, for a reviewer; and writing the result as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.metrics import Labels, dice, surface_distances
from meduniseg_core.files import write_text

ONLY_FIRST, ONLY_SECOND, OTHER_CLASS = 1, 2, 3
"""Labels of a difference map: foreground in the first only, in the second only, another class in each."""


@dataclass(frozen=True)
class ClassComparison:
    """One class: Dice and surface Dice 0 to 1, HD95 in mm, sizes in ml (mm2 for 2D images)."""

    label: int
    name: str
    dice: float
    hd95: float
    surface_dice: float
    first_size: float
    second_size: float


def compare(
    first: Labels,
    second: Labels,
    spacing: Sequence[float],
    names: Mapping[int, str] | None = None,
    tolerance: float = 2.0,
) -> list[ClassComparison]:
    """Compare every class that occurs in either map. Empty masks count as in `metrics`.

    Args:
        first: labels (D, H, W) or (H, W).
        second: labels of the same shape.
        spacing: mm along the axes.
        names: label id -> name.
        tolerance: of the surface Dice, in mm.

    Returns:
        One row for each class, in order of label id.

    Raises:
        BadInputError: the maps have different shapes.
    """
    if first.shape != second.shape:
        raise BadInputError(
            f"The label maps have different grids, {first.shape} and {second.shape}; compare maps of one image."
        )
    unit = float(np.prod(spacing)) / (1000 if first.ndim == 3 else 1)
    labels = sorted((set(np.unique(first).tolist()) | set(np.unique(second).tolist())) - {0})
    rows = []
    for label in labels:
        one, two = first == label, second == label
        distances = surface_distances(one, two, spacing)
        rows.append(
            ClassComparison(
                label=int(label),
                name=(names or {}).get(int(label), f"class {label}"),
                dice=dice(first, second, int(label)),
                hd95=distances.hausdorff95,
                surface_dice=distances.surface_dice(tolerance),
                first_size=int(np.count_nonzero(one)) * unit,
                second_size=int(np.count_nonzero(two)) * unit,
            )
        )
    return rows


def difference(first: Labels, second: Labels) -> np.ndarray:
    """Mark where two maps differ.

    Args:
        first: labels of any shape.
        second: labels of the same shape.

    Returns:
        uint8: ``ONLY_FIRST``, ``ONLY_SECOND``, ``OTHER_CLASS``, else 0.
    """
    changed = np.zeros(first.shape, np.uint8)
    changed[(first != 0) & (second == 0)] = ONLY_FIRST
    changed[(first == 0) & (second != 0)] = ONLY_SECOND
    changed[(first != 0) & (second != 0) & (first != second)] = OTHER_CLASS
    return changed


def write_comparison(rows: Sequence[ClassComparison], path: Path, unit: str, length: str = "mm") -> None:
    """Write the rows as CSV, atomically.

    Args:
        rows: one for each class.
        path: the file.
        unit: the unit of the sizes.
        length: the unit of the distances.

    Raises:
        UnwritableError: the folder or the disk refuses the file.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["label", "class", "dice", f"hd95_{length}", "surface_dice", f"first_{unit}", f"second_{unit}"])
    for row in rows:
        writer.writerow(
            [row.label, row.name, *(f"{value:.6g}" for value in (row.dice, row.hd95, row.surface_dice)),
             f"{row.first_size:.6g}", f"{row.second_size:.6g}"]
        )  # fmt: skip
    write_text(path, stream.getvalue())
