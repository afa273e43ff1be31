"""A consensus of readers: the majority, or STAPLE, which weights readers by their estimated reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import SimpleITK

from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import box_of
from meduniseg_core.readers.agreement import Labels, check_readings

Method = Literal["majority", "staple"]

METHODS: tuple[Method, ...] = get_args(Method)
_MARGIN = 4  # voxels around all labels: STAPLE's estimates depend on the amount of background
_THRESHOLD, _MOST_ITERATIONS = 1e-5, 100  # STAPLE stops once its estimates change by less


def consensus(readings: Mapping[str, Labels], method: Method = "majority") -> Labels:
    """Join the readers' labels.

    Args:
        readings: labels (D, H, W), by the reader's name.
        method: ``majority``: the label that most readers give; background where two labels have equally many votes.
            ``staple``: the most probable label by Warfield's expectation maximisation for several classes, in a box
            around all labels; background where two are equally probable.

    Returns:
        Labels of the same shape, uint8 (uint16 for labels above 254).

    Raises:
        UsageError: there is no such method.
        BadInputError: there are fewer than two readers, or their labels have different shapes.
    """
    if method not in METHODS:
        raise UsageError(f"There is no consensus '{method}'; choose {' or '.join(METHODS)}.")
    check_readings(readings)
    maps = list(readings.values())
    highest = max(int(one.max()) for one in maps)
    undecided = highest + 1
    dtype = np.uint8 if undecided <= np.iinfo(np.uint8).max else np.uint16
    joined = np.zeros(maps[0].shape, dtype=dtype)
    labelled = np.any([one != 0 for one in maps], axis=0)
    box = box_of(labelled, _MARGIN)
    if box is None:
        return joined
    parts = [SimpleITK.GetImageFromArray(one[box].astype(dtype)) for one in maps]
    if method == "majority":
        found = SimpleITK.LabelVoting(parts, undecided)
    else:
        found = SimpleITK.MultiLabelSTAPLE(parts, undecided, _THRESHOLD, _MOST_ITERATIONS)
    labels = SimpleITK.GetArrayFromImage(found)
    joined[box] = np.where(labels == undecided, 0, labels)
    return joined
