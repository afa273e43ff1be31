"""Instances of a result: the connected pieces of its classes, each with a box, a score and its size.

A piece is what touches by faces, edges or corners. Its score says how sure the network is of it: the mean probability
of its class over its voxels. Boxes are those of the labels, so that what is drawn and what is listed agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meduniseg_core.images import Image
from meduniseg_core.images.boxes import box_of, piece_boxes
from meduniseg_core.images.instances import Instance
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.preprocessing import TaskPlan


def find_instances(
    labels: Image,
    class_names: Sequence[str],
    probabilities: npt.NDArray[np.floating] | None = None,
    channels: Mapping[int, int] | None = None,
) -> tuple[Instance, ...]:
    """Find the connected pieces of all classes.

    Args:
        labels: (1, D, H, W); the classes are 1, 2, ...
        class_names: the name of label ``i + 1`` at position ``i``.
        probabilities: (n, D, H, W); None gives every piece the score 1.
        channels: which of the probabilities is a label's; by default the one of its own number.

    Returns:
        The pieces, the surest first.
    """
    unit, scale = labels.size_unit
    array = labels.array[0]
    found: list[Instance] = []
    for label, name in enumerate(class_names, start=1):
        mask = array == label
        around = box_of(mask)
        if around is None:
            continue
        pieces, count = ndimage.label(mask[around], np.ones((3, 3, 3), dtype=bool))
        counts = np.bincount(pieces.ravel(), minlength=count + 1)
        scores = np.ones(count + 1)
        if probabilities is not None:
            channel = label if channels is None else channels[label]
            own = probabilities[channel][around].astype(np.float64)
            sums = np.bincount(pieces.ravel(), weights=own.ravel(), minlength=count + 1)
            scores = np.clip(sums / np.maximum(counts, 1), 0, 1)
        for number, box in enumerate(piece_boxes(pieces, around), start=1):
            voxels = int(counts[number])
            found.append(Instance(label, name, box, float(scores[number]), voxels, voxels * scale, unit))
    return tuple(sorted(found, key=lambda one: (-one.score, -one.voxels, one.label, one.box)))


def with_instances(result: Segmentation, plan: TaskPlan, *, keep_probabilities: bool) -> Segmentation:
    """Add the instances to a result whose probabilities were kept for them.

    Args:
        result: of one task.
        plan: the task's.
        keep_probabilities: whether the probabilities were asked for, too.

    Returns:
        A copy.
    """
    channels = None if plan.region_labels is None else {label: at for at, label in enumerate(plan.region_labels)}
    shares = None if result.probabilities is None else result.probabilities.array
    found = find_instances(result.labels, result.class_names, shares, channels)
    return replace(result, instances=found, probabilities=result.probabilities if keep_probabilities else None)
