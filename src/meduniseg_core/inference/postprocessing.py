"""Postprocessing that a task's plan asks for: of some classes only the largest connected component is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from meduniseg_core.editing import keep_largest
from meduniseg_core.images import Image
from meduniseg_core.preprocessing import TaskPlan

LARGEST = "largest component"


def cleaned(labels: Image, plan: TaskPlan) -> Image:
    """Apply a plan's postprocessing. Slices of a volume that a 2D task segmented one by one are cleaned one by one.

    Args:
        labels: (1, D, H, W).
        plan: the task's.

    Returns:
        The labels; the same object where the plan asks for nothing.
    """
    for label, name in enumerate(plan.classes, start=1):
        if name in plan.largest_only:
            labels = labels.with_array(largest_kept(labels.array[0], label, by_slice=plan.dimension == 2)[None])
    return labels


def largest_kept(labels: np.ndarray, label: int, *, by_slice: bool = False) -> np.ndarray:
    """Keep of one class the largest connected component; corners count as connected.

    Args:
        labels: (D, H, W).
        label: the class.
        by_slice: of every slice along D by itself.

    Returns:
        (D, H, W), a changed copy.
    """
    if by_slice:
        return np.stack([keep_largest(plane, label).apply(plane) for plane in labels])
    return keep_largest(labels, label).apply(labels)


def postprocessing_record(plan: TaskPlan) -> dict[str, Any]:
    """Say what a plan's postprocessing is, for the result's JSON.

    Args:
        plan: the task's.

    Returns:
        ``{"postprocessing": {class: what is done}}``; empty where nothing is done.
    """
    named = {name: LARGEST for name in plan.classes if name in plan.largest_only}
    return {"postprocessing": named} if named else {}
