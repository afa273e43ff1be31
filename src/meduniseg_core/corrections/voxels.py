"""Images and label maps as the ledger sees them: what is stored, whether they fit each other, and what was changed."""

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
    """Bring an image into a dtype that files hold.

    Args:
        image: any.

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
    """``labels`` ``(1, D, H, W)`` as uint8 or uint16 on the grid of ``image``, as :func:`place_labels` puts them there,
    with the numbers of ``classes`` where the file names its labels; its findings say what had to be done.

    Args:
        image: Whose labels they are.
        labels: As they were read.
        classes: The names of 1, 2, ...
        ignored: The label of voxels that nobody has looked at, if the ledger has one: the next number.

    Returns:
        The label map that is stored.

    Raises:
        BadInputError: Several channels, another grid, fractional values, ids beyond ``classes``, and a mask of a
            photograph that is stored turned where it is not known which way round the mask is (`images.upright`).
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
    """Voxels of every class, and how many came and went; where nobody has looked nothing is counted.

    Args:
        corrected: As :func:`labels_on` gives it.
        predicted: What was corrected, likewise, where it is known.
        classes: The names of 1, 2, ...
        ignored: The label of voxels that nobody has looked at.

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
