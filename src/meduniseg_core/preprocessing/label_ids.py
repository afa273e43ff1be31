"""Which ids a label map of a data set may hold, and what to do about others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image

IGNORED = 255
"""In preprocessed label maps: voxels that nobody has looked at, whatever the data set's own id for them is."""

_SHOWN = 8


def check_ids(labels: Image, classes: Sequence[str], ignored: int | None = None) -> None:
    """BadInputError where ``labels`` hold ids beyond the background, ``classes`` (1, 2, ...) and ``ignored``.

    The one check of ids for data sets: `check`, planning and preprocessing. The sentence says what can be done.
    """
    highest = len(classes) if ignored is None else ignored
    if int(labels.array.max()) <= highest:
        return
    present = {int(number) for number in np.unique(labels.array)} - {0}
    strange = sorted(present - set(range(highest + 1)))
    ids = ", ".join(str(number) for number in strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
    where = labels.source if labels.source is not None else labels.name
    raise BadInputError(
        f"{where} holds label ids that dataset.json does not name ({ids}); {remedy(present, classes, ignored)}."
    )


def remedy(present: set[int], classes: Sequence[str], ignored: int | None = None) -> str:
    """What to do about a map with the ids ``present`` (without 0) that go beyond the classes', in a few words."""
    if len(present) == 1 and len(classes) == 1:
        return f"it is a mask of 0 and {min(present)}, so save it with 0 and 1 for {classes[0]}"
    if present - set(range(len(classes) + 1)) == {255} and ignored is None:
        return (
            f"if 255 marks voxels that are not labelled, save them as {len(classes) + 1} and add "
            f'"ignore": {len(classes) + 1} to its labels, else correct the labels'
        )
    return "name them or correct the labels"
