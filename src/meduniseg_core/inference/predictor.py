"""A session: load a model once, segment many images, any number of tasks each (SPEC sections 2-5, DESIGN section 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from meduniseg_core import __version__
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, Event, EventSink, Message, Progress, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.content import Air
from meduniseg_core.inference.engine import Engine
from meduniseg_core.inference.estimate import Estimate, Workload, workload_of
from meduniseg_core.inference.grouping import chosen_plans, preprocessing_key, shared_passes
from meduniseg_core.inference.memory import Rung, descend, free_bytes, ladder, out_of_memory_means, slab_window
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.source import Chunk, Collector, SliceSource, VolumeSource
from meduniseg_core.inference.windows import Box, WindowGrid, window_shape
from meduniseg_core.model.compute import resolve_device, resolve_precision
from meduniseg_core.preprocessing import Preprocessed, TaskPlan, preprocess
from meduniseg_core.weights import Model

_CPU_BATCH_VOXELS = 1 << 18  # windows smaller than this are run together: about one 512 x 512 image
_CUDA_BATCH_VOXELS = 1 << 23
_REMEDY = "restrict the segmentation to a box, ask for fewer tasks at a time or close other programs"


@dataclass(frozen=True)
class Request:
    """How an image is segmented; the arguments of :meth:`Predictor.segment`."""

    tta: bool = False
    overlap: float = 0.5
    box: Box | None = None
    probabilities: bool = False

    def check(self, image: Image) -> None:
        """Raise UsageError where the request is impossible for ``image``."""
        if not 0 <= self.overlap < 1:
            raise UsageError(f"The overlap of windows must be at least 0 and below 1, not {self.overlap}.")
        if self.box is None:
            return
        shape = image.geometry.shape
        if len(self.box) != 3 or any(not 0 <= low < high <= size for (low, high), size in zip(self.box, shape, strict=True)):
            raise UsageError(f"The box {self.box} is empty or leaves {image.name}, whose grid (D, H, W) is {shape}.")


class Predictor:
    """A model on a device, ready to segment images.

    ``device``: auto, cpu, cuda or mps. ``precision``: auto, fp32, bf16 or fp16. ``batch``: windows at a time (None: by the
    windows' size). ``compile``: see `Engine`. The model itself is not changed. ``free`` tells the free bytes of a device.

    Raises:
        UsageError: an unknown or absent device, a precision it cannot run.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        compile: bool = False,
        *,
        free: Callable[[torch.device], int] = free_bytes,
    ) -> None:
        if batch is not None and batch < 1:
            raise UsageError(f"A batch has at least one window, not {batch}.")
        self.model = model
        self.device = resolve_device(device)
        self._precision = precision
        self._batch = batch
        self._compile = compile
        self._free = free
        self._engines: dict[torch.device, Engine] = {}
        self._pace: dict[torch.device, float] = {}  # seconds per voxel of a window
        self._engine(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the convolutions on the predictor's device."""
        return self._engine(self.device).dtype

    def segment(
        self,
        image: Image,
        tasks: str | Sequence[str],
        modality: str | None = None,
        *,
        tta: bool = False,
        overlap: float = 0.5,
        box: Box | None = None,
        probabilities: bool = False,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> dict[str, Segmentation]:
        """Segment ``image`` (C, D, H, W) by every one of ``tasks``.

        Tasks that are preprocessed alike share the encoder's pass. A volume given to a 2D task is segmented slice by
        slice along its (canonical) depth. ``modality``, if given, must be the tasks'. ``tta`` averages over mirrorings
        along the tasks' own mirror axes. ``overlap`` is that of neighbouring windows, a fraction of their size. ``box``
        ((d0, d1), (h0, h1), (w0, w1)), half-open, in voxels of the image as it is: everything outside is background.
        Progress is sent per batch of windows (stage "segment"), and ``cancel`` polled as often.

        Raises:
            UsageError: an unknown task, one of another modality, a box outside the image.
            BadInputError: an image that a task cannot take (channels, no size in mm, a 2D image for a 3D task).
            OutOfMemoryError: the last rung of the memory ladder was not low enough.
            CancelledError: ``cancel`` was set.
        """
        request = Request(tta, overlap, box, probabilities)
        request.check(image)
        plans = chosen_plans(self.model.info, [tasks] if isinstance(tasks, str) else tasks, modality)
        results: dict[str, Segmentation] = {}
        prepared: tuple[Any, VolumeSource | SliceSource] | None = None
        for group in shared_passes(plans):
            if cancel is not None:
                cancel.raise_if_cancelled()
            key = preprocessing_key(group[0])
            if prepared is None or prepared[0] != key:
                prepared = None  # the array before is not needed any more
                prepared = key, self._prepare(image, group[0], request, events)
            results.update(self._run_group(image, group, prepared[1], request, events, cancel))
        return {plan.task: results[plan.task] for plan in plans}

    def estimate(self, image: Image, tasks: str | Sequence[str], *, tta: bool = False, overlap: float = 0.5) -> Estimate:
        """What :meth:`segment` will need at most, before it starts; seconds only once this session has segmented something.

        Air that will be cropped or skipped is not looked at, so that memory, windows and time are upper bounds.
        """
        plans = chosen_plans(self.model.info, [tasks] if isinstance(tasks, str) else tasks, None)
        config, dtype = self.model.network.config, self.dtype
        loads = []
        for group in shared_passes(plans):
            load = workload_of(image, group, config, dtype, overlap=overlap, tta=tta)
            loads.append((load, self._batch_for(load.window)))
        return Estimate.of(loads, Rung(self.device, 1, self.device), self._pace.get(self.device))

    def _prepare(
        self, image: Image, plan: TaskPlan, request: Request, events: EventSink
    ) -> VolumeSource | SliceSource:
        if plan.dimension == 2 and not image.is_2d:
            events(
                Message("info", f"{image.name} is a volume and task {plan.task} takes 2D images: it is segmented slice by slice.")
            )
            return SliceSource(image, plan, request.box, events)
        with out_of_memory_means(_REMEDY):
            prepared: Preprocessed = preprocess(image, plan, events=events)
        return VolumeSource(prepared, request.box)

    def _run_group(
        self,
        image: Image,
        plans: list[TaskPlan],
        source: VolumeSource | SliceSource,
        request: Request,
        events: EventSink,
        cancel: CancelToken | None,
    ) -> dict[str, Segmentation]:
        began = time.perf_counter()
        work = _Pass(self, plans, source, request, events, cancel)
        load = work.load(image)
        batch = self._batch_for(load.window)
        rungs = ladder(self.device, batch)
        collectors, rung = descend(
            rungs, work.run, need=load.need, free=self._free, remedy=self._remedy(request), events=events
        )
        with out_of_memory_means(self._remedy(request)):
            restored = [collector.result() for collector in collectors]
        seconds = time.perf_counter() - began
        info = self.model.info
        settings = {
            "precision": str(self._engine(rung.device).dtype).removeprefix("torch."),
            "overlap": request.overlap,
            "tta": request.tta,
            "box": request.box,
        }
        return {
            plan.task: Segmentation(
                labels=labels,
                image=image,
                task=plan.task,
                modality=plan.modality,
                class_names=plan.classes,
                model=info.name,
                model_sha256=self.model.sha256,
                version=__version__,
                seconds=seconds,
                rung=rung.name,
                intended_use=info.intended_use,
                probabilities=probabilities,
                settings=settings,
            )
            for plan, (labels, probabilities) in zip(plans, restored, strict=True)
        }

    def _remedy(self, request: Request) -> str:
        return f"do not ask for probabilities, or {_REMEDY}" if request.probabilities else _REMEDY

    def _batch_for(self, window: Shape3) -> int:
        # not by the number of tasks: batches of the same windows give bit for bit the same features
        if self._batch is not None:
            return self._batch
        room = _CUDA_BATCH_VOXELS if self.device.type == "cuda" else _CPU_BATCH_VOXELS
        return max(1, min(16, room // (window[0] * window[1] * window[2])))

    def _engine(self, device: torch.device) -> Engine:
        if device not in self._engines:
            # what was asked for on the first device need not exist on the one fallen back to
            precision = self._precision if device == self.device else "auto"
            dtype = resolve_precision(precision, device)
            self._engines[device] = Engine(self.model.network, device, dtype, self._compile)
        return self._engines[device]


class _Pass:
    """One pass over an image for tasks that share it, run again on a lower rung if memory ends."""

    def __init__(
        self,
        predictor: Predictor,
        plans: list[TaskPlan],
        source: VolumeSource | SliceSource,
        request: Request,
        events: EventSink,
        cancel: CancelToken | None,
    ) -> None:
        self._predictor = predictor
        self._plans = plans
        self._source = source
        self._request = request
        self._events = events
        self._cancel = cancel
