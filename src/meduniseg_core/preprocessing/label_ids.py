"""The label ids that a data set allows, what to do about others, and ids found by the names that a file carries.

3D Slicer numbers segments in the order in which they were made, so the same number may be the liver in one file and the
spleen in the next. Where a file names its labels as the classes are named, the names decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Finding, Image
from meduniseg_core.images.reading import smallest_dtype

IGNORED = 255
"""In preprocessed label maps, the id of voxels that nobody has labelled, whatever the data set's own id for them."""

_SHOWN = 8


def check_ids(labels: Image, classes: Sequence[str], ignored: int | None = None) -> None:
    """Check that a label map holds only ids that dataset.json names.

    This is the one check of ids for data sets, used by `check`, planning and preprocessing.

    Args:
        labels: The label map.
        classes: The names of 1, 2, ...
        ignored: The id of voxels that are left out; None where the data set has none.

    Raises:
        BadInputError: There are other ids (the message says what can be done), or the file calls a label by the name of
            another class.
    """
    highest = len(classes) if ignored is None else ignored
    for number, name in names_of(labels).items():
        if name in classes and classes.index(name) + 1 != number:
            raise BadInputError(
                f"{_where(labels)} calls its label {number} '{name}', and in dataset.json that is "
                f"{classes.index(name) + 1}; save it with the numbers of dataset.json."
            )
    if int(labels.array.max()) <= highest:
        return
    present = {int(number) for number in np.unique(labels.array)} - {0}
    strange = sorted(present - set(range(highest + 1)))
    ids = ", ".join(str(number) for number in strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
    advice = remedy(present, classes, ignored)
    raise BadInputError(f"{_where(labels)} holds label ids that dataset.json does not name ({ids}); {advice}.")


def remedy(present: set[int], classes: Sequence[str], ignored: int | None = None) -> str:
    """Say what to do about ids that go beyond the classes.

    Args:
        present: The ids of the map, without 0.
        classes: The names of 1, 2, ...
        ignored: The id of voxels that are left out; None where the data set has none.

    Returns:
        The advice, as the end of a sentence.
    """
    binary = binary_remedy(present, classes)
    if binary is not None:
        return binary
    if present - set(range(len(classes) + 1)) == {255} and ignored is None:
        return (
            f"if 255 marks voxels that are not labelled, save them as {len(classes) + 1} and add "
            f'"ignore": {len(classes) + 1} to its labels, else correct the labels'
        )
    return "name them or correct the labels"


def binary_remedy(present: set[int], classes: Sequence[str]) -> str | None:
    """Say what to do about a mask whose only id is not 1, where there is only one class.

    Args:
        present: The ids of the map, without 0.
        classes: The names of 1, 2, ...

    Returns:
        The advice, as the end of a sentence; None for other maps.
    """
    if len(present) != 1 or len(classes) != 1:
        return None
    return f"it is a mask of 0 and {min(present)}, so save it with 0 and 1 for {classes[0]}"


def names_of(labels: Image) -> dict[int, str]:
    """Find the names that a file itself gives to its labels.

    Args:
        labels: The label map.

    Returns:
        Id -> name, of the foreground ids that occur; empty for most formats.
    """
    named = labels.meta.get("class_names") or {}
    if not named:
        return {}
    present = {int(number) for number in np.unique(labels.array)} - {0}
    return {int(number): str(name) for number, name in sorted(named.items()) if int(number) in present}


def numbered_by_name(labels: Image, classes: Sequence[str]) -> Image:
    """Renumber a label map by the names that its file carries.

    Files without names keep their ids. So do files none of whose names is a class, which a finding says.

    Args:
        labels: The label map.
        classes: The names of 1, 2, ...

    Returns:
        The map with the classes' ids; a finding says what was changed.

    Raises:
        BadInputError: Only some of the file's names are classes, or a label has no name.
    """
    named = names_of(labels)
    unknown = [name for name in named.values() if name not in classes]
    if not named:
        return labels
    if len(unknown) == len(named):
        if max(named) > len(classes):
            return labels  # refused by its ids
        pairs = ", ".join(f"{number} ({name}) as {classes[number - 1]}" for number, name in named.items())
        text = f"{labels.name} names its labels otherwise than the classes here; they were taken by number: {pairs}."
        return labels.with_findings(Finding("labels_matched", text))
    if unknown:
        raise BadInputError(
            f"{labels.name} names the label '{unknown[0]}', and the classes are {', '.join(classes)}; add it to the "
            "classes, or call it as one of them."
        )
    numbers = {number: classes.index(name) + 1 for number, name in named.items()}
    if all(number == new for number, new in numbers.items()):
        return labels
    table = np.arange(int(labels.array.max()) + 1)
    for number, new in numbers.items():
        table[number] = new
    stray = sorted({int(number) for number in np.unique(labels.array)} - {0} - named.keys())
    if stray:
        raise BadInputError(f"{labels.name} names some of its labels and not {stray[0]}; name it, or remove it.")
    pairs = ", ".join(f"{name} {number} -> {numbers[number]}" for number, name in named.items())
    text = f"{labels.name} numbers its labels otherwise than the classes here; its names decided: {pairs}."
    array = table[labels.array].astype(smallest_dtype(int(table.max())))
    names = {new: named[number] for number, new in numbers.items()}
    return labels.with_array(array, class_names=names).with_findings(Finding("labels_matched", text, "info"))


def _where(labels: Image) -> str:
    return str(labels.source) if labels.source is not None else labels.name
