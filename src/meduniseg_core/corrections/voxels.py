"""Prepares images and label maps for the ledger: what is stored, whether they fit each other, and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from meduniseg_core.corrections.records import ClassChange
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, place_labels
from meduniseg_core.images.reading import smallest_dtype
from meduniseg_core.preprocessing.dataset import IGNORE
from meduniseg_core.preprocessing.label_ids import binary_remedy, numbered_by_name


def storable(image: Image) -> Image:
    """Convert an image to a dtype that files can hold.

    Args:
        image: the image.

    Returns:
        The image; bool becomes uint8, float16 becomes float32, foreign byte order native.
    """
    array = image.array
    if array.dtype == np.bool_:
        return image.with_array(array.astype(np.uint8))
    if array.dtype == np.float16:
        return image.with_array(array.astype(np.float32))
    return image if array.dtype.isnative else image.with_array(array.astype(array.dtype.newbyteorder("=")))


def labels_on(image: Image, labels: Image, classes: Sequence[str], ignored: int | None = None) -> Image:
    """Place labels on an image's grid, numbered as the ledger numbers its classes.

    They are placed by :func:`place_labels`. If the file names its labels, they are renumbered by name. The result's
    findings say what was changed.

    Args:
        image: the image that the labels belong to.
        labels: (1, D, H, W), as they were read.
        classes: the names of labels 1, 2, ...
        ignored: the label of voxels that nobody has annotated, if the ledger has one: the number after the classes.

    Returns:
        The label map to store, uint8 or uint16.

    Raises:
        BadInputError: the labels have several channels, another grid, fractional values or numbers beyond ``classes``;
            or the photograph is stored turned and it is not known which way round its mask is (`images.upright`).
    """
    labels = numbered_by_name(labels, classes if ignored is None else (*classes, IGNORE))
    array = labels.array
    name = labels.name if labels.source is not None else "the label map"
    if labels.channels != 1:
        raise BadInputError(
            f"{name} has {labels.channels} channels and a label map has one; join the classes into one map."
        )
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise BadInputError(f"{name} holds fractional values; save it with whole numbers as label ids.")
    low, high = array.min(), array.max()
    if low < 0 or high > (len(classes) if ignored is None else ignored):
        strange = low if low < 0 else high
        present = {int(number) for number in np.unique(array)} - {0}
        advice = binary_remedy(present, classes) or "name the new class or correct the labels"
        raise BadInputError(
            f"{name} holds the label {int(strange)} and the ledger names {len(classes)} class(es) "
            f"({', '.join(classes)}); {advice}."
        )
    whole = labels.with_array(array.astype(smallest_dtype(int(high)), copy=False))
    placed = place_labels(replace(whole, source=labels.source or Path(name)), image)  # its errors say the name
    return replace(placed, source=labels.source, physical=image.physical)


def class_changes(
    corrected: Image, predicted: Image | None, classes: Sequence[str], ignored: int | None = None
) -> tuple[ClassChange, ...]:
    """Count the voxels of every class, and how many were added and removed; voxels that nobody has annotated do not
    count.

    Args:
        corrected: the label map, as :func:`labels_on` returns it.
        predicted: the prediction that was corrected, likewise; None if it is not known.
        classes: the names of labels 1, 2, ...
        ignored: the label of voxels that nobody has annotated.

    Returns:
        One entry per class.
    """
    count = len(classes) + (1 if ignored is None else 2)
    if predicted is None:
        voxels = np.zeros(count, dtype=np.int64)
        for plane in corrected.array[0]:
            voxels += np.bincount(plane.ravel(), minlength=count)
        return tuple(ClassChange(name=name, corrected=int(voxels[i])) for i, name in enumerate(classes, start=1))
    joint = np.zeros(count * count, dtype=np.int64)
    for now, then in zip(corrected.array[0], predicted.array[0], strict=True):  # by plane: 8 bytes a voxel are made
        known = slice(None) if ignored is None else (now != ignored) & (then != ignored)
        joint += np.bincount(then[known].ravel().astype(np.intp) * count + now[known].ravel(), minlength=count * count)
    table = joint.reshape(count, count)  # [predicted, corrected]
    kept, before, after = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    return tuple(
        ClassChange(
            name=name,
            corrected=int(after[i]),
            predicted=int(before[i]),
            added=int(after[i] - kept[i]),
            removed=int(before[i] - kept[i]),
        )
        for i, name in enumerate(classes, start=1)
    )
