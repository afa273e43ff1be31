"""From a data set's fingerprint to the plan of its task (nnU-Net's heuristics; docs/spec.md section 2)."""

from __future__ import annotations

import math
import re

import numpy as np

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.preprocessing.dataset import RawDataset
from meduniseg_core.preprocessing.fingerprint import Fingerprint, ct_channels, extract_fingerprint
from meduniseg_core.preprocessing.plan import Normalisation, TaskPlan
from meduniseg_core.preprocessing.planners import (
    PAPER_BATCH,
    PAPER_LONGEST_SIDE,
    PAPER_PATCH,
    nnunet_batch,
    nnunet_spacing,
    nnunet_start,
)

TOTAL_STRIDE: Shape3 = (16, 32, 32)
"""How much the paper's network shrinks an image to its bottleneck (docs/spec.md section 2)."""

VOXELS = {dimension: math.prod(patch) for dimension, patch in PAPER_PATCH.items()}
BATCH_VOXELS = {dimension: PAPER_BATCH[dimension] * voxels for dimension, voxels in VOXELS.items()}
"""The paper's patch times its batch (docs/spec.md section 6)."""

_MASKED_BELOW = 0.75  # nnU-Net: normalise within the mask where cropping removes at least a quarter


def make_plan(
    dataset: RawDataset,
    *,
    task: str | None = None,
    modality: str | None = None,
    spacing: Vector3 | None = None,
    longest_side: int | None = None,
    patch: Shape3 | None = None,
    batch: int | None = None,
    patch_voxels: int | None = None,
    batch_voxels: int | None = None,
    least_batch: int = 2,
    nnunet: bool = False,
    total_stride: Shape3 = TOTAL_STRIDE,
    figures: Fingerprint | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TaskPlan:
    """Plan a data set's task. What is given is kept; the rest follows from the fingerprint.

    Args:
        dataset: The data set.
        task: The task's name; by default the data set's.
        modality: The modality; by default the data set's.
        spacing: The network's spacing in mm along (D, H, W); by default the median of the training cases.
        longest_side: The longer side in pixels, for images without a size in mm; by default 512.
        patch: The patch (D, H, W), which is rounded up to multiples of ``total_stride``; by default it follows the
            median shape, within ``patch_voxels``.
        batch: Patches per batch; by default as many as ``batch_voxels`` allow, at least ``least_batch``.
        patch_voxels: The most voxels of a patch.
        batch_voxels: The most voxels of a batch.
        least_batch: The fewest patches of a batch whose size is not given.
        nnunet: Choose by nnU-Net's rules what is not given (`planners`).
        total_stride: How much the network shrinks an image to its bottleneck, along (D, H, W).
        figures: A fingerprint that was already made.
        events: Receives progress.
        cancel: Ends the work between two cases.

    Returns:
        The plan.

    Raises:
        UsageError: Options contradict the data.
        BadInputError: The data set cannot be planned.
        CancelledError: ``cancel`` was set.
    """
    marks = figures if figures is not None else extract_fingerprint(dataset, events=events, cancel=cancel)
    modality = modality if modality is not None else dataset.modality
    _check_options(marks, spacing, longest_side)
    two = marks.dimension == 2
    target: Vector3 | None = None
    if longest_side is None and marks.physical:
        target = spacing or (nnunet_spacing(marks) if nnunet else marks.median_spacing)
    elif longest_side is None:
        longest_side = PAPER_LONGEST_SIDE
    median = _median_shape(marks, target, longest_side)
    stride = (1, total_stride[1], total_stride[2]) if two else total_stride
    budget = patch_voxels if patch_voxels is not None else VOXELS[marks.dimension]
    start = nnunet_start(median, target, marks.dimension) if nnunet else None
    size = _rounded(patch, stride) if patch is not None else plan_patch(median, stride, budget, start)
    if batch is None:
        room = batch_voxels if batch_voxels is not None else BATCH_VOXELS[marks.dimension]
        batch = max(least_batch, room // math.prod(size))
        if nnunet:
            batch = nnunet_batch(batch, size, median, marks.cases)

    normalisation = _normalisation(dataset, modality, marks)
    fixed = directed_axes(dataset, marks.dimension)
    axes = (1, 2) if two else (0, 1, 2)
    return TaskPlan(
        task=task if task is not None else dataset.task,
        modality=modality,
        dimension=marks.dimension,
        channels=dataset.channels,
        classes=dataset.classes,
        spacing=target,
        longest_side=longest_side,
        patch=size,
        batch=batch,
        normalisation=normalisation,
        figures=marks.figures,
        mirror_axes=tuple(axis for axis in axes if axis not in fixed),
        crop_to_body=target is not None and not two,
    )


def is_sided(dataset: RawDataset) -> bool:
    """Say whether a data set's classes differ by body side.

    ``sided`` in dataset.json decides; without it, class names with the word left or right, or a pair such as
    ``parotid_l`` and ``parotid_r``.

    Args:
        dataset: The data set.

    Returns:
        True where they do.
    """
    if dataset.description.sided is not None:
        return dataset.description.sided
    return _named_by_side(dataset.classes)


def tells_left_from_right(plan: TaskPlan) -> bool:
    """Say whether a task's classes differ by body side: by their names, or because images are not mirrored along w.

    Args:
        plan: The task's plan.

    Returns:
        True where they do.
    """
    if plan.scheme is not None:  # its axes are the file's, and may be mirrored or not for other reasons
        return _named_by_side(plan.classes)
    unmirrored = plan.dimension == 3 and bool(plan.mirror_axes) and 2 not in plan.mirror_axes
    return unmirrored or _named_by_side(plan.classes)


def _named_by_side(classes: tuple[str, ...]) -> bool:
    words = [_words(name) for name in classes]
    if any({"left", "right"} & set(parts) for parts in words):
        return True
    swapped = {tuple({"l": "r", "r": "l"}.get(part, part) for part in parts) for parts in words}
    return any(tuple(parts) in swapped for parts in words if {"l", "r"} & set(parts))


_ANTERIOR_POSTERIOR = {"anterior", "posterior", "ventral", "dorsal"}
_SUPERIOR_INFERIOR = {"superior", "inferior", "upper", "lower", "cranial", "caudal"}


def directed_axes(dataset: RawDataset, dimension: int) -> frozenset[int]:
    """Find the axes along which mirroring would turn one class into another, by the classes' names.

    In canonical orientation w (2) runs from right to left, h (1) from front to back, d (0) from feet to head. In a 2D
    image w runs across the picture and h down it; which of them runs from front to back is not known, so names of that
    kind give both.

    Args:
        dataset: The data set.
        dimension: 2 or 3.

    Returns:
        Axes of (D, H, W).
    """
    words = {word for name in dataset.classes for word in _words(name)}
    axes = {2} if is_sided(dataset) else set()
    if words & _ANTERIOR_POSTERIOR:
        axes |= {1} if dimension == 3 else {1, 2}
    if words & _SUPERIOR_INFERIOR:
        axes |= {0} if dimension == 3 else {1}
    return frozenset(axes)


def plan_patch(median: Shape3, stride: Shape3, budget: int, start: Shape3 | None = None) -> Shape3:
    """Choose the patch for a data set.

    It is the median shape (or what is given to start with), rounded up to the stride. While it has too many voxels, the
    axis that is largest relative to the median shrinks by one stride (but never below one).

    Args:
        median: The median shape (D, H, W), in voxels of the network's grid.
        stride: The network's total stride along (D, H, W).
        budget: The most voxels.
        start: The patch to start with.

    Returns:
        The patch (D, H, W).
    """
    size = list(_rounded(start or median, stride))
    while math.prod(size) > budget:
        axes = [axis for axis in range(3) if size[axis] > stride[axis]]
        if not axes:
            break
        axis = max(axes, key=lambda a: (size[a] / median[a], size[a]))
        size[axis] -= stride[axis]
    return size[0], size[1], size[2]


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+", apart.lower())


def _check_options(marks: Fingerprint, spacing: Vector3 | None, longest_side: int | None) -> None:
    if spacing is not None and longest_side is not None:
        raise UsageError("Give a spacing in mm or a long side in pixels, not both.")
    if spacing is not None and not marks.physical:
        raise UsageError(
            f"The images of {marks.dataset} have no size in mm; give a long side in pixels instead of a spacing."
        )
    if longest_side is not None and marks.dimension == 3:
        raise UsageError(f"{marks.dataset} holds volumes; give a spacing in mm instead of a long side.")
    if marks.dimension == 3 and not marks.physical:
        raise BadInputError(
            f"Volumes of {marks.dataset} have no voxel size; store them in a format that has one, such as NIfTI."
        )


def _median_shape(marks: Fingerprint, target: Vector3 | None, longest_side: int | None) -> Shape3:
    sizes = []
    for shape, spacing in zip(marks.shapes, marks.spacings, strict=True):
        if target is not None:
            size = [shape[a] * spacing[a] / target[a] for a in range(3)]
        else:
            assert longest_side is not None
            factor = longest_side / max(shape[1:])
            size = [1.0, shape[1] * factor, shape[2] * factor]
        sizes.append(size)
    d, h, w = (max(1, round(float(value))) for value in np.median(sizes, axis=0))
    return (1 if marks.dimension == 2 else d), h, w


def _rounded(size: Shape3, stride: Shape3) -> Shape3:
    d, h, w = (max(1, math.ceil(value / step)) * step for value, step in zip(size, stride, strict=True))
    return d, h, w


def _normalisation(dataset: RawDataset, modality: str, marks: Fingerprint) -> tuple[Normalisation, ...]:
    kinds: list[Normalisation] = []
    masked = marks.physical and marks.dimension == 3 and marks.body_fraction < _MASKED_BELOW
    flags = zip(dataset.channels, ct_channels(dataset.channels, modality), marks.hounsfield, marks.figures, strict=True)
    for name, is_ct, hounsfield, figures in flags:
        if name.strip().lower() == "nonorm":  # nnU-Net's name for a channel to be left as it is
            kinds.append("none")
        elif is_ct and hounsfield and marks.physical and figures is not None:
            kinds.append("ct")
        else:
            kinds.append("zscore_nonzero" if masked else "zscore")
    return tuple(kinds)
