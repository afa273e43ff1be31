"""What is done to a result once the network has decided: the postprocessing that its task's plan asks for (of some
classes only the largest connected component is kept), and the check whether it is plausible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from meduniseg_core.checks.plausibility import check_result
from meduniseg_core.editing import keep_largest
from meduniseg_core.images import Finding, Image
from meduniseg_core.images.findings import merge
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.preprocessing import TaskPlan

LARGEST = "largest component"


def finished_result(
    result: Segmentation, image: Image, plan: TaskPlan, *, whole: bool
) -> tuple[Segmentation, tuple[Finding, ...]]:
    """Clean a result as its plan asks, and check whether it is plausible.

    Args:
        result: what the network decided.
        image: (C, D, H, W), as the task takes it, on the result's grid.
        plan: the task's.
        whole: whether the whole image was segmented.

    Returns:
        The finished result, and what is new among its findings.
    """
    labels, left_out = cleaned(result.labels, plan, image.name)
    new = merge(left_out, check_result(image, labels, plan, whole=whole))
    settings = {**result.settings, **postprocessing_record(plan)}
    return replace(result, labels=labels, settings=settings, findings=merge(result.findings, new)), new


def cleaned(labels: Image, plan: TaskPlan, name: str) -> tuple[Image, tuple[Finding, ...]]:
    """Apply a plan's postprocessing. Slices of a volume that a 2D task segmented one by one are cleaned one by one.

    Args:
        labels: (1, D, H, W).
        plan: the task's.
        name: the segmented image's.

    Returns:
        The labels (the same object where the plan asks for nothing), and what was left out, if anything.
    """
    gone = []
    for label, of in enumerate(plan.classes, start=1):
        if of in plan.largest_only:
            kept = largest_kept(labels.array[0], label, by_slice=plan.dimension == 2)
            voxels = int(np.count_nonzero(kept != labels.array[0]))
            if voxels:
                labels = labels.with_array(kept[None])
                gone.append(f"{of} {voxels:,}")
    if not gone:
        return labels, ()
    unit = "pixels" if plan.dimension == 2 else "voxels"
    text = f"Task {plan.task} keeps one piece of some classes: smaller ones found in {name} were left out"
    return labels, (Finding("pieces_left_out", f"{text} ({unit}: {', '.join(gone)}).", "info"),)


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
