"""Frozen features of a network for one image: its decoder's last level, before the head, for one or several tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.checks.image_checks import in_the_tasks_window, refuse_image, without_nodata
from meduniseg_core.errors import OutOfMemoryError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import whole_box
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.images.orientation import canonical_orientation
from meduniseg_core.inference.execution import shared_passes
from meduniseg_core.inference.export import axis_matrices
from meduniseg_core.inference.memory import free_bytes
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.source import slice_of
from meduniseg_core.inference.windows import plan_windows
from meduniseg_core.interactive.features import FeaturePart
from meduniseg_core.preprocessing import TaskPlan, is_colour, preprocess

MOST_TASKS = 3
"""The number of tasks whose features are taken: each costs a decoder's pass and as much memory."""

_MOST_FINER, _MOST_FINER_OF_OTHERS = 8.0, 2.0  # times the image's voxels; of a task of another modality
_OVERLAP = 0.25  # features vary little between windows: less overlap than for a result


def fitting_tasks(
    plans: Sequence[TaskPlan],
    image: Image,
    modality: str | None = None,
    without: Sequence[str] = (),
    first: str | None = None,
) -> tuple[str, ...]:
    """Choose the tasks whose features describe an image.

    Tasks of slices serve a volume only where no task of volumes does. Those of the image's modality come first, then
    those whose images have as many channels; tasks of volumes of another modality serve only where there is none of
    the image's, since each costs a pass over the volume. Tasks of CT in HU serve CT alone. Tasks that work on a much
    finer grid than the image's are left out, those of another modality sooner.

    Args:
        plans: the tasks of a model.
        image: (C, D, H, W).
        modality: of the image, where it is known.
        without: names of tasks that are not to be used.
        first: the task that comes first, where it can take the image, however fine its grid.

    Returns:
        Their names, the best first, at most `MOST_TASKS`; none where no task can take such an image.
    """
    ranked = []
    for plan in plans:
        if plan.task in without or not _can_take(plan, image, modality):
            continue
        other_kind = plan.modality != modality
        wanted = plan.task == first
        if not wanted and _finer(plan, image) > (_MOST_FINER_OF_OTHERS if other_kind else _MOST_FINER):
            continue
        other_dimension = (plan.dimension == 2) != image.is_2d
        ranked.append((not wanted, other_dimension, other_kind, len(plan.channels) != image.channels, plan.task))
    ranked.sort()
    own = [row for row in ranked if row[1] == ranked[0][1]]
    if own and not image.is_2d and not own[0][1]:  # a volume, and tasks of volumes
        own = [row for row in own if row[2] == own[0][2]]
    return tuple(row[-1] for row in own[:MOST_TASKS])


def _finer(plan: TaskPlan, image: Image) -> float:
    """How many voxels a task's grid has for each of the image's: many cost minutes for features of little use."""
    if plan.spacing is None or plan.dimension == 2:
        return 1.0
    return math.prod(step / wanted for step, wanted in zip(_canonical_spacing(image), plan.spacing, strict=True))


def _canonical_spacing(image: Image) -> Vector3:
    return canonical_orientation(image)[0].geometry.spacing


def _can_take(plan: TaskPlan, image: Image, modality: str | None) -> bool:
    if plan.dimension == 3 and (image.is_2d or not image.physical):
        return False
    if plan.modality != modality and "ct" in plan.normalisation:
        return False
    if plan.spacing is not None and not image.physical:
        return False
    colour = is_colour(plan.channels)
    return (
        len(plan.channels) == image.channels
        or (colour and image.channels == 1)
        or (len(plan.channels) == 1 and image.meta.get("colour") is not None)
    )


def network_features(
    predictor: Predictor,
    image: Image,
    tasks: Sequence[str],
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> list[FeaturePart]:
    """Compute the features of some tasks for an image.

    Args:
        predictor: the model on its device.
        image: (C, D, H, W), on perpendicular axes.
        tasks: names of tasks of the model. A task of slices takes a volume slice by slice.
        events: receives progress for each batch of windows.
        cancel: stops after the current batch of windows.

    Returns:
        One part for each task, in float16 on its network's grid; for a task of slices on a volume a part of all slices.

    Raises:
        UsageError: the model does not have a task.
        BadInputError: a task cannot take the image.
        OutOfMemoryError: the features would not fit into memory.
        CancelledError: ``cancel`` was set.
    """
    info = predictor.model.info
    plans = [info.plan_of(task) for task in tasks]
    image = without_nodata(image, plans)
    found: dict[str, FeaturePart] = {}
    for group in shared_passes(plans):
        for plan in group:
            refuse_image(image, plan)
        shown = in_the_tasks_window(image, group[0])
        if group[0].dimension == 2 and not image.is_2d:
            computed = _of_slices(predictor, shown, group, events, cancel)
        else:
            computed = _of_whole(predictor, shown, group, events, cancel)
        found.update((part.name, part) for part in computed)
    return [found[task] for task in tasks]


def _of_whole(
    predictor: Predictor, image: Image, plans: list[TaskPlan], events: EventSink, cancel: CancelToken | None
) -> list[FeaturePart]:
    prepared = preprocess(image, plans[0], room=free_bytes(torch.device("cpu")))
    channels = predictor.model.info.config.features[0]
    shape = prepared.trace.grid.shape
    _check_room(image, len(plans), 2 * channels * len(plans) * shape[0] * shape[1] * shape[2])
    info = predictor.model.info
    engine = predictor.engine(predictor.device)
    network = engine.features_of([info.task_index(plan.task) for plan in plans], info.modality_index(plans[0].modality))
    grid = plan_windows(plans[0], shape, info.config.total_stride, _OVERLAP)
    sinks = [_FeatureSink(channels, shape) for _ in plans]
    outputs = [
        Output(channels, sink, subject=f"the features of {plan.task} on {image.name}")
        for plan, sink in zip(plans, sinks, strict=True)
    ]
    sliding = SlidingWindow(device=predictor.device)
    sliding.run(torch.from_numpy(prepared.data), grid, network, outputs, events=events, cancel=cancel)
    trace = prepared.trace
    matrices = [matrix.numpy() for matrix in axis_matrices(trace)]
    place = matrices, trace.box, trace.canonical.shape, trace.reorientation
    return [FeaturePart.of_canonical(plan.task, sink.values, *place) for plan, sink in zip(plans, sinks, strict=True)]


def _of_slices(
    predictor: Predictor, image: Image, plans: list[TaskPlan], events: EventSink, cancel: CancelToken | None
) -> list[FeaturePart]:
    """Features of tasks of slices for a volume, slice by slice along its canonical depth."""
    canonical, change = canonical_orientation(image)
    shape = canonical.geometry.shape
    stacks: list[list[FeaturePart]] = [[] for _ in plans]
    began = time.perf_counter()
    for depth in range(shape[0]):
        parts = _of_whole(predictor, slice_of(canonical, depth), plans, ignore, cancel)
        if depth == 0:
            _check_room(image, len(plans), shape[0] * sum(part.values.nbytes for part in parts))
        for stack, part in zip(stacks, parts, strict=True):
            stack.append(part)
        events(Progress("features", depth + 1, shape[0], time.perf_counter() - began))
    found = []
    for plan, stack in zip(plans, stacks, strict=True):
        assert stack[0].axes is not None
        _, to_h, to_w = stack[0].axes
        values = np.concatenate([part.values for part in stack], axis=1)
        matrices = [np.eye(shape[0], dtype=np.float32), to_h, to_w]
        found.append(FeaturePart.of_canonical(plan.task, values, matrices, whole_box(shape), shape, change))
    return found


def _check_room(image: Image, tasks: int, needed: int) -> None:
    if needed > free_bytes(torch.device("cpu")) // 2:
        raise OutOfMemoryError(
            f"The features of {image.name} for {tasks} task{'' if tasks == 1 else 's'} need {needed / 2**30:.1f} GiB, "
            "more than half of the free memory; choose fewer tasks, or a part of the image."
        )


class _FeatureSink:
    """Keeps the features of a whole grid in half precision; they arrive plane by plane."""

    def __init__(self, channels: int, shape: Shape3) -> None:
        self.values = np.zeros((channels, *shape), np.float16)

    def write(self, first: int, logits: Tensor) -> None:
        """Receive planes.

        Args:
            first: index of the first plane.
            logits: float32 (features, planes, h, w).
        """
        self.values[:, first : first + logits.shape[1]] = logits.cpu().numpy()
