"""One pass over one image: which tasks share it, and how it runs under one execution plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, Event, EventSink, Message, Progress
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box
from meduniseg_core.inference.engine import Engine, Watch
from meduniseg_core.inference.export import MeanSink
from meduniseg_core.inference.memory import ExecutionPlan, Workload
from meduniseg_core.inference.quality.assessment import REVIEW_BELOW
from meduniseg_core.inference.quality.evidence import EvidenceCollector, FeaturePool, pooled_stage
from meduniseg_core.inference.sliding_window import Output, SlidingWindow, is_finite, passes_of
from meduniseg_core.inference.source import BackgroundDetector, Chunk, Collector, SliceSource, VolumeSource
from meduniseg_core.inference.windows import WindowGrid, plan_windows
from meduniseg_core.model.features import Features
from meduniseg_core.preprocessing import TaskPlan, is_colour
from meduniseg_core.weights import ModelInfo, Pack


def chosen_plans(info: ModelInfo, tasks: Sequence[str], modality: str | None) -> list[TaskPlan]:
    """Find the plans of the requested tasks.

    Args:
        info: description of the model.
        tasks: names of tasks; duplicates are dropped.
        modality: the modality that all tasks must have; None for any.

    Returns:
        The plans, in the order of ``tasks``.

    Raises:
        UsageError: there is no task, the model does not have one, or one has another modality. The message lists what
            is allowed.
    """
    if not tasks:
        raise UsageError(f"Name at least one task; model {info.name} has: {', '.join(p.task for p in info.tasks)}.")
    plans = [info.plan_of(task) for task in dict.fromkeys(tasks)]
    if modality is None:
        return plans
    for plan in plans:
        if plan.modality != modality:
            fitting = ", ".join(p.task for p in info.tasks if p.modality == modality) or "none"
            raise UsageError(
                f"Task '{plan.task}' of model {info.name} is for modality {plan.modality}, not {modality}; "
                f"its tasks for {modality}: {fitting}."
            )
    return plans


def shared_passes(plans: Sequence[TaskPlan], packs: Mapping[str, Pack] | None = None) -> list[list[TaskPlan]]:
    """Group plans that share a pass: same preprocessing, same windows, same encoder.

    Tasks with a pack have an encoder of their own.

    Args:
        plans: the plans.
        packs: the pack of each task that has one.

    Returns:
        The groups, in order of appearance.
    """
    groups: dict[tuple[Any, ...], list[TaskPlan]] = {}
    for plan in plans:
        pack = (packs or {}).get(plan.task)
        windows = plan.patch, plan.small_images, plan.averaging
        key = preprocessing_key(plan), plan.modality, windows, None if pack is None else pack.sha256
        groups.setdefault(key, []).append(plan)
    return list(groups.values())


def preprocessing_key(plan: TaskPlan) -> tuple[Any, ...]:
    """What preprocessing depends on.

    Args:
        plan: a task's plan.

    Returns:
        A key; plans with equal keys preprocess every image to equal arrays.
    """
    return (
        plan.dimension,
        plan.spacing,
        plan.longest_side,
        len(plan.channels),
        is_colour(plan.channels),
        plan.normalisation,
        plan.figures,
        plan.crop_to_body,
        plan.hu_window,
        plan.modality == "ct",  # only a CT is clipped to a window
        plan.low_pass,
        plan.scheme,
    )


@dataclass(frozen=True)
class Request:
    """How an image is to be segmented: the arguments of ``Predictor.segment``, which describes them."""

    tta: bool = False
    overlap: float = 0.5
    box: Box | None = None
    probabilities: bool = False
    scale: float = 1.0
    orientation: str | None = None
    evidence: bool = False
    review_below: float = REVIEW_BELOW
    instances: bool = False
    finish: bool = True

    @property
    def needs_probabilities(self) -> bool:
        """Whether the pass has to keep probabilities: instances are scored by them."""
        return self.probabilities or self.instances

    def check(self, image: Image) -> None:
        """Refuse a request that is impossible for an image.

        Args:
            image: (C, D, H, W).

        Raises:
            UsageError: the overlap or the Dice to review below is out of range, or the box is empty or leaves the
                image.
        """
        if not 0 <= self.overlap < 1:
            raise UsageError(f"The overlap of windows must be at least 0 and below 1, not {self.overlap}.")
        if not 0 <= self.review_below <= 1:
            raise UsageError(f"A Dice to review below lies between 0 and 1, not at {self.review_below}.")
        if self.box is None:
            return
        shape = image.geometry.shape
        if len(self.box) != 3 or any(
            not 0 <= low < high <= size for (low, high), size in zip(self.box, shape, strict=True)
        ):
            raise UsageError(f"The box {self.box} is empty or leaves {image.name}, whose grid (D, H, W) is {shape}.")


class Pass:
    """One pass over one image for tasks that share preprocessing and encoder.

    Args:
        info: description of the model.
        plans: the tasks' plans.
        source: the preprocessed image.
        name: the image's name, for messages.
        request: how to segment it.
        engine_of: gives the network on a device.
        events: receives progress and messages.
        cancel: stops the pass.
        watched: tasks whose evidence is collected (see `quality.evidence`).
        exact: keep sums in single precision, also where a plan rounds them as nnU-Net does.
    """

    def __init__(
        self,
        info: ModelInfo,
        plans: list[TaskPlan],
        source: VolumeSource | SliceSource,
        name: str,
        request: Request,
        engine_of: Callable[[torch.device], Engine],
        events: EventSink,
        cancel: CancelToken | None,
        watched: Collection[str] = (),
        *,
        exact: bool = False,
    ) -> None:
        self._info = info
        self._plans = plans
        self._source = source
        self._name = name
        self._request = request
        self._engine_of = engine_of
        self._events = events
        self._cancel = cancel
        self._watched = watched
        self.wants_exact = exact
        self._half = plans[0].half_sums and not exact
        self.dtype = torch.float32
        """The dtype of the engine that ran last."""
        self.evidence: dict[str, EvidenceCollector] = {}
        """The evidence of the watched tasks, once the pass has run."""
        self.pace: float | None = None
        """Seconds per voxel of a window, once the pass has run."""

    def run(self, execution: ExecutionPlan) -> list[Collector]:
        """Segment the image under an execution plan.

        Args:
            execution: the execution plan.

        Returns:
            One collector per plan, from which the result can be taken.

        Raises:
            BadInputError: the preprocessed image has values that are NaN or infinite.
            NonFiniteOutputError: the network's logits are NaN or infinite.
            CancelledError: the pass was cancelled.
        """
        engine = self._engine_of(execution.device)
        self.dtype = engine.dtype
        modality = self._info.modality_index(self._plans[0].modality)
        # nnU-Net rounds the sums of every fold before it averages them
        apart = self._half and engine.members > 1
        tasks = [self._info.task_index(plan.task) for plan in self._plans]
        self.evidence = {plan.task: EvidenceCollector(plan) for plan in self._plans if plan.task in self._watched}
        watch = self._watch()
        network = engine.for_members(watch) if apart else engine.for_tasks(tasks, modality, watch)
        collectors = [
            self._source.collector(plan, self._request.needs_probabilities, half=self._half) for plan in self._plans
        ]
        began, run_windows, voxels, done = time.perf_counter(), 0, 0, 0
        for chunk in self._source.chunks():
            self._check(chunk)
            grid = self._grid(chunk, execution)
            total = self._source.windows(grid)
            sliding = SlidingWindow(
                device=execution.device,
                accumulate_on=execution.accumulate_on,
                batch=execution.batch,
                tta=self._request.tta,
                half_sums=self._half,
                activation=_activation(self._plans[0]),
                is_empty=_air(chunk, self._plans[0]),
            )
            outputs = [
                self._watching(
                    Output(
                        plan.outputs,
                        collector.sink(chunk),
                        plan.mirror_axes,
                        subject=f"task {plan.task} on {self._name}",
                        remedy=_remedy(self._info, engine.dtype),
                    ),
                    self.evidence.get(plan.task),
                    grid,
                )
                for plan, collector in zip(self._plans, collectors, strict=True)
            ]
            if apart:
                sink = MeanSink(outputs[0].sink, engine.members)
                first, others = replace(outputs[0], sink=sink), replace(outputs[0], sink=sink, watch=None)
                outputs = [first, *[others] * (engine.members - 1)]
            shifted = _shifted(self._events, done, total, began)
            run_windows += sliding.run(chunk.data, grid, network, outputs, events=shifted, cancel=self._cancel)
            done += len(grid)
            voxels = grid.window[0] * grid.window[1] * grid.window[2]
        if run_windows:
            passes = passes_of([plan.mirror_axes for plan in self._plans], grid.window) if self._request.tta else 1
            self.pace = (time.perf_counter() - began) / (run_windows * passes * voxels)
        if run_windows < done:
            text = f"{done - run_windows} of {done} windows hold only air or background and were skipped."
            self._events(Message("info", text))
        return collectors

    def _watch(self) -> Watch | None:
        """What gathers the encoder's features for the watched tasks; None where there are none."""
        pools = []
        for task, evidence in self.evidence.items():
            evidence.pool = FeaturePool(self._info.task_index(task))
            pools.append(evidence.pool)
        if not pools:
            return None

        def watch(features: Features) -> None:
            pooled = pooled_stage(features)
            for pool in pools:
                pool.add(pooled, features.priors)

        return watch

    @staticmethod
    def _watching(output: Output, evidence: EvidenceCollector | None, grid: WindowGrid) -> Output:
        if evidence is None:
            return output
        return replace(output, sink=evidence.sink(output.sink), watch=evidence.votes(grid).add)

    @property
    def exact(self) -> bool:
        """Whether what ran last was in single precision throughout."""
        return self.dtype == torch.float32 and not self._half

    def load(self, before: Workload) -> Workload:
        """The pass's workload, made exact by the shape of the preprocessed image.

        Args:
            before: the workload estimated before preprocessing.

        Returns:
            The workload.
        """
        extent = self._source.extent
        if extent is None:
            return replace(before, probabilities=self._request.needs_probabilities)
        shape, region = extent
        grid = plan_windows(self._plans[0], shape, self._info.config.total_stride, self._request.overlap, region)
        return replace(before, grid=grid, windows=len(grid), probabilities=self._request.needs_probabilities)

    def _check(self, chunk: Chunk) -> None:
        """Refuse values that are not finite: they would be taken for air, and their windows skipped."""
        if not is_finite(chunk.data):
            raise BadInputError(
                f"{self._name} holds values so large that task {self._plans[0].task} cannot be prepared from them; "
                "set voxels without a measurement to the background's value."
            )

    def _grid(self, chunk: Chunk, execution: ExecutionPlan) -> WindowGrid:
        d, h, w = chunk.data.shape[1:]
        stride, overlap = self._info.config.total_stride, self._request.overlap
        return plan_windows(self._plans[0], (d, h, w), stride, overlap, chunk.region, execution.slabs)


def _activation(plan: TaskPlan) -> Callable[[Tensor], Tensor] | None:
    """What makes probabilities of logits (B, K, ...) where these are averaged; None where logits are."""
    if plan.averaging == "logits":
        return None
    return torch.sigmoid if plan.region_labels is not None else partial(torch.softmax, dim=1)


def _air(chunk: Chunk, plan: TaskPlan) -> BackgroundDetector | None:
    """Detects windows without body; None if a plan follows nnU-Net's scheme, which skips no windows."""
    return BackgroundDetector(chunk.data, plan, chunk.stack) if plan.scheme is None else None


def _remedy(info: ModelInfo, dtype: torch.dtype) -> str:
    if dtype != torch.float32:
        return "run it again with the precision fp32"
    return f"this model ({info.name}) cannot segment it, use another one"


def _shifted(events: EventSink, before: int, total: int, began: float) -> EventSink:
    """Turn the progress of a chunk into progress of the whole image."""

    def send(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, done=before + event.done, total=total, seconds=time.perf_counter() - began)
        events(event)

    return send
