"""Run a pass over one image within the memory there is, once more in fp32 where its output is not finite, and make
segmentations of what it collected."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from meduniseg_core.errors import NonFiniteOutputError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.images import Image
from meduniseg_core.images.findings import Finding, report
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.engine import Engines
from meduniseg_core.inference.execution import Pass, Request
from meduniseg_core.inference.memory import (
    ExecutionPlan,
    fallbacks,
    out_of_memory_means,
    run_with_fallback,
    windows_at_a_time,
    workload_before,
)
from meduniseg_core.inference.quality.assessment import assess
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.inference.source import Collector, SliceSource, VolumeSource
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.version import __version__
from meduniseg_core.weights import Model, Pack

MEMORY_REMEDY = "restrict the segmentation to a box, ask for fewer tasks at a time or close other programs"


@dataclass(frozen=True)
class PassRunner:
    """A session's way to run passes.

    Attributes:
        model: the model.
        engines: its networks by device and pack.
        device: the session's device.
        dtype: the dtype of the convolutions there.
        batch: number of windows at a time; None chooses it by the windows' size.
        free: tells the free memory of a device in bytes.
    """

    model: Model
    engines: Engines
    device: torch.device
    dtype: torch.dtype
    batch: int | None
    free: Callable[[torch.device], int]

    def batch_of(self, window: Shape3) -> int:
        """Number of windows at a time.

        Args:
            window: (D, H, W) of a window.

        Returns:
            The number.
        """
        return self.batch if self.batch is not None else windows_at_a_time(window, self.device)

    def run(
        self,
        image: Image,
        plans: list[TaskPlan],
        source: VolumeSource | SliceSource,
        pack: Pack | None,
        request: Request,
        *,
        fall_back: bool,
        events: EventSink,
        cancel: CancelToken | None,
    ) -> tuple[dict[str, Segmentation], float | None]:
        """Segment an image for tasks that share a pass.

        Args:
            image: (C, D, H, W), as the segmentations refer to it.
            plans: the tasks' plans.
            source: the image, preprocessed for them.
            pack: the pack that refines the network; None for the model alone.
            request: how to segment it.
            fall_back: run with less where memory is short; without, OutOfMemoryError is raised at once.
            events: receives progress and messages.
            cancel: stops after the current batch of windows.

        Returns:
            The segmentation of each task, and the seconds per voxel of a window; None where nothing was measured, or
            not at the session's precision.

        Raises:
            BadInputError: the preprocessed image has values that are NaN or infinite.
            OutOfMemoryError: memory does not suffice for the cheapest execution plan.
            NonFiniteOutputError: the network's logits are NaN or infinite.
            CancelledError: ``cancel`` was set.
        """
        began = time.perf_counter()
        info = self.model.info
        calibration = info.calibration if pack is None else None  # which is of the model alone
        watched = [p.task for p in plans if request.evidence or (calibration is not None and calibration.covers(p))]
        common = info, plans, source, image.name, request
        work = Pass(*common, lambda device: self.engines(device, pack), events, cancel, watched)
        collectors, execution, raised = None, None, None
        try:
            collectors, execution = self._within_memory(work, image, plans, request, fall_back, events)
        except NonFiniteOutputError:
            if work.exact:
                raise
            raised = _raised(work, image, plans)
        if raised is not None:  # outside the handler, whose traceback holds the logits
            report([raised], events)
            work = Pass(*common, self.engines.exact(pack), events, cancel, watched, exact=True)
            collectors, execution = self._within_memory(work, image, plans, request, fall_back, events)
        assert collectors is not None and execution is not None
        with out_of_memory_means(_remedy(request)):
            collected = [collector.result() for collector in collectors]
        settings = {
            "precision": str(work.dtype).removeprefix("torch."),
            "overlap": request.overlap,
            "tta": request.tta,
            "box": request.box,
        }
        evidence = {task: collector.result() for task, collector in work.evidence.items()}
        seconds = time.perf_counter() - began
        results = {
            plan.task: Segmentation(
                labels=labels,
                image=image,
                task=plan.task,
                modality=plan.modality,
                class_names=plan.classes,
                model=info.name,
                model_sha256=self.model.sha256,
                pack=None if pack is None else pack.info.name,
                pack_sha256=None if pack is None else pack.sha256,
                version=__version__,
                seconds=seconds,
                execution=execution.name,
                intended_use=info.intended_use,
                probabilities=probabilities,
                settings=settings,
                evidence=evidence.get(plan.task) if request.evidence else None,
                quality=assess(evidence.get(plan.task), plan, calibration, request.review_below),
                findings=() if raised is None else (raised,),
            )
            for plan, (labels, probabilities) in zip(plans, collected, strict=True)
        }
        return results, work.pace if raised is None else None

    def _within_memory(
        self, work: Pass, image: Image, plans: list[TaskPlan], request: Request, fall_back: bool, events: EventSink
    ) -> tuple[list[Collector], ExecutionPlan]:
        load = work.load(workload_before(image, plans, self.model.info.config, request.overlap))
        there = torch.float32 if work.wants_exact else self.dtype
        ways = fallbacks(self.device, self.batch_of(load.grid.window))
        return run_with_fallback(
            ways if fall_back else ways[:1],
            work.run,
            need=lambda execution: load.need(execution, there if execution.device == self.device else torch.float32),
            free=self.free,
            remedy=_remedy(request),
            events=events,
        )


def _raised(work: Pass, image: Image, plans: list[TaskPlan]) -> Finding:
    """The finding about an image that is segmented once more in fp32."""
    tasks = ", ".join(plan.task for plan in plans)
    how = "sums in half precision" if work.dtype == torch.float32 else str(work.dtype).removeprefix("torch.")
    text = f"The network's output for {tasks} on {image.name} was not finite in {how}: it is run once more in fp32."
    return Finding("precision_raised", text, "info")


def _remedy(request: Request) -> str:
    less = "do not ask for probabilities or boxes, or " if request.needs_probabilities else ""
    return less + MEMORY_REMEDY
