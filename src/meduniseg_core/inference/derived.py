"""Measures that clinicians derive from several classes: the cup/disc ratio, the infected share of a lung."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.images import Image
from meduniseg_core.inference.image_class import ImageClass
from meduniseg_core.inference.segmentation import ClassRow


@dataclass(frozen=True)
class Derived:
    """A ratio without a unit, and in words what it is of."""

    name: str
    value: float
    meaning: str


def derived_measures(labels: Image, class_names: Sequence[str]) -> list[Derived]:
    """Compute the measures that a task's classes define.

    Optic cup and disc: the vertical ratio of their heights (the disc is cup and rim together; pixels need not be
    square), and the ratio of their areas. Lung and infection: the infected share of the lung.

    Args:
        labels: (1, D, H, W), upright; 0 is background.
        class_names: the name of label ``i + 1`` at position ``i``.

    Returns:
        The measures; none for other tasks, and none whose denominator is not there.
    """
    numbers = {name.strip().lower(): label for label, name in enumerate(class_names, start=1)}
    array = labels.array[0]
    found: list[Derived] = []
    rim = next((numbers[name] for name in ("disc rim", "rim", "disc", "optic disc") if name in numbers), None)
    cup_label = next((numbers[name] for name in ("cup", "optic cup") if name in numbers), None)
    if cup_label is not None and rim is not None and labels.is_2d:
        cup = array[0] == cup_label
        disc = cup | (array[0] == rim)
        if disc.any():
            found += [
                Derived("vertical cup/disc ratio", _height(cup) / _height(disc), "height of the cup over the disc's"),
                Derived("area cup/disc ratio", float(cup.sum() / disc.sum()), "area of the cup over the disc's"),
            ]
    if {"lung", "infection"} <= numbers.keys():
        infected = int(np.count_nonzero(array == numbers["infection"]))
        whole = infected + int(np.count_nonzero(array == numbers["lung"]))
        if whole:
            found.append(Derived("infected share of the lung", infected / whole, "infection over lung and infection"))
    return found


def table_csv(
    image: str,
    tables: Mapping[str, Sequence[ClassRow]],
    derived: Mapping[str, Sequence[Derived]],
    image_classes: Mapping[str, ImageClass] | None = None,
) -> str:
    """Write results as CSV: a row for each class, one for each derived measure, then one for each class that the whole
    image may have, with its probability.

    Args:
        image: the image's name.
        tables: the classes by task.
        derived: the derived measures by task.
        image_classes: the class of the image by task, where a head says it.

    Returns:
        The text, with a header. Numbers have a decimal point and six digits; a mean that is not defined is empty.
    """
    channels = max((len(row.mean_intensity) for rows in tables.values() for row in rows), default=1)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    means = [f"mean_{number}" for number in range(1, channels + 1)] if channels > 1 else ["mean"]
    writer.writerow(["image", "task", "label", "class", "voxels", "size", "unit", *means])
    for task, rows in tables.items():
        for row in rows:
            values = ["" if np.isnan(mean) else f"{mean:.6g}" for mean in row.mean_intensity]
            writer.writerow([image, task, row.label, row.name, row.voxels, f"{row.size:.6g}", row.unit, *values])
        for one in derived.get(task, ()):
            writer.writerow([image, task, "", one.name, "", f"{one.value:.6g}", "ratio"])
        if image_classes is not None and task in image_classes:
            for name, share in image_classes[task].ranked:
                writer.writerow([image, task, "", f"image: {name}", "", f"{share:.6g}", "probability"])
    return stream.getvalue()


def _height(mask: np.ndarray) -> int:
    """Rows from the first to the last pixel of a mask (H, W); 0 for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    return 0 if rows.size == 0 else int(rows[-1] - rows[0] + 1)
