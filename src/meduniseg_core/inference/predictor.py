"""A session: load a model once, then segment any number of images for any number of tasks (docs/spec.md sections
2-5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from meduniseg_core.checks.field_of_view import scaled_plan
from meduniseg_core.checks.image_checks import check_image, in_the_tasks_window, refuse_image, without_nodata
from meduniseg_core.errors import UsageError, is_out_of_memory
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.findings import Finding, merge, report
from meduniseg_core.images.oriented import oriented_as_said
from meduniseg_core.inference.deshear import Desheared
from meduniseg_core.inference.engine import Engine, Engines
from meduniseg_core.inference.execution import Request, chosen_plans, preprocessing_key, shared_passes
from meduniseg_core.inference.instances import with_instances
from meduniseg_core.inference.memory import Estimate, estimate, free_bytes, out_of_memory_means, workload_before
from meduniseg_core.inference.pass_runner import MEMORY_REMEDY, PassRunner
from meduniseg_core.inference.postprocessing import finished_result
from meduniseg_core.inference.prepared import PreparedImage
from meduniseg_core.inference.quality.assessment import REVIEW_BELOW
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.inference.source import SliceSource, VolumeSource
from meduniseg_core.model.compute import resolve_device, resolve_precision
from meduniseg_core.preprocessing import TaskPlan, preprocess
from meduniseg_core.weights import Model, Pack
from meduniseg_core.weights.pack_file import packs_by_task

_USUAL = Request()


class Predictor:
    """A model on a device, ready to segment images, on a CPU several at once from threads. The model itself does not
    change.

    Args:
        model: the model.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        batch: number of windows at a time; None chooses it by the windows' size.
        compile: compile the network, see `Engine`.
        packs: the pack of each task that is to run through one; all other tasks run through the model alone, bit for
            bit.
        free: tells the free memory of a device in bytes.

    Raises:
        UsageError: the device or precision is unknown or not available, or a pack does not refine its task.
        BadInputError: the model is not the base of a pack.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        compile: bool = False,
        *,
        packs: Mapping[str, Pack] | None = None,
        free: Callable[[torch.device], int] = free_bytes,
    ) -> None:
        if batch is not None and batch < 1:
            raise UsageError(f"A batch has at least one window, not {batch}.")
        self.model = model
        self.use_packs(packs or {})
        self.device = resolve_device(device)
        self._free = free
        self._pace: float | None = None
        self._dtype = resolve_precision(precision, self.device)
        self._engines = Engines(model, self.device, self._dtype, compile)
        self._runner = PassRunner(model, self._engines, self.device, self._dtype, batch, free)
        try:
            self.engine(self.device)
        except (MemoryError, RuntimeError) as error:
            # another program may fill the accelerator: segment() tries again and falls back to the CPU, saying so
            if self.device.type == "cpu" or not is_out_of_memory(error):
                raise

    @property
    def models(self) -> tuple[Model, ...]:
        """The one model, as an ensemble has several."""
        return (self.model,)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the convolutions on the predictor's device."""
        return self._dtype

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
        scale: float = 1.0,
        orientation: str | None = None,
        evidence: bool = False,
        review_below: float = REVIEW_BELOW,
        instances: bool = False,
        finish: bool = True,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> dict[str, Segmentation]:
        """Segment an image for one or more tasks.

        Tasks with the same preprocessing share the encoder's pass. A volume given to a 2D task is segmented slice by
        slice along its (canonical) depth. An image on a sheared grid (a tilted gantry) is resampled to perpendicular
        axes and the result is brought back to its grid.

        Args:
            image: (C, D, H, W).
            tasks: one or more tasks of the model.
            modality: the modality that the tasks must have; None does not check it.
            tta: average over mirrored images along each task's mirror axes.
            overlap: overlap of neighbouring windows, a fraction of their size.
            box: ((d0, d1), (h0, h1), (w0, w1)), half-open, in voxels of the image as it is; everything outside becomes
                background.
            probabilities: also return probabilities.
            scale: for an image without a size in mm, how many times more than the training images it shows along a side
                (4 for a larger tile of a slide, for example).
            orientation: orientation of a volume whose file does not give it ("RAS", see `images.oriented.towards`).
            evidence: keep what the pass shows about itself in the results, whether or not the model is calibrated.
            review_below: results with an estimated Dice below this should be reviewed; for calibrated models it decides
                the traffic light.
            instances: also list the connected pieces of every class, each with box, score and size.
            finish: clean the result as the plan asks and check whether it is plausible; without, it is the network's
                own, as a mean of several needs it.
            events: receives progress for each batch of windows (stage "segment"), and messages.
            cancel: stops after the current batch of windows.

        Returns:
            The segmentation of each task.

        Raises:
            UsageError: a task is unknown or of another modality, the box leaves the image, or the overlap, scale,
                orientation or ``review_below`` is not valid.
            BadInputError: a task cannot take the image (its channels, no size in mm, a 2D image for a 3D task).
            OutOfMemoryError: memory does not suffice for the cheapest execution plan.
            NonFiniteOutputError: the network's logits are NaN or infinite.
            CancelledError: ``cancel`` was set.
        """
        request = Request(
            tta, overlap, box, probabilities, scale, orientation, evidence, review_below, instances, finish
        )
        prepared = self.prepare(image, tasks, modality, request, events=events)
        return self.segment_prepared(prepared, events=events, cancel=cancel)

    def prepare(
        self,
        image: Image,
        tasks: str | Sequence[str],
        modality: str | None = None,
        request: Request = _USUAL,
        *,
        events: EventSink = ignore,
    ) -> PreparedImage:
        """Do what :meth:`segment` does before the network runs: check the image, preprocess it for the first pass.

        It does not touch the device, so one image can be prepared in a thread while another one is segmented.

        Args:
            image: (C, D, H, W).
            tasks: one or more tasks of the model.
            modality: the modality that the tasks must have; None does not check it.
            request: how to segment it.
            events: receives messages.

        Returns:
            What :meth:`segment_prepared` takes.

        Raises:
            UsageError: as for :meth:`segment`.
            BadInputError: as for :meth:`segment`.
            OutOfMemoryError: memory does not suffice for preprocessing.
        """
        request.check(image)
        scale, plans = request.scale, self._scaled_plans(tasks, modality, request.scale)
        given, asked = image, request
        image = oriented_as_said(image, request.orientation)
        for plan in plans:
            refuse_image(image, plan)
        checked = {
            plan.task: merge(image.findings, check_image(image, plan, scale), _slice_by_slice(image, plan))
            for plan in plans
        }
        image = without_nodata(image, plans)
        desheared = Desheared.of(image)
        if desheared is not None:
            text = (
                f"The axes of {image.name} are not at right angles: it is resampled, and the labels are brought back."
            )
            checked = {task: merge(found, [Finding("sheared_grid", text, "info")]) for task, found in checked.items()}
            image, request = desheared.image, desheared.request(request)
        report(merge(*checked.values()), events)
        _ = given.sha256  # here, beside any GUI: the image keeps it for the results' JSON
        first = shared_passes(plans, self.packs)[0][0]
        source = preprocessing_key(first), self._prepare(image, first, request, events)
        return PreparedImage(given, image, plans, asked, request, desheared, checked, source)

    def segment_prepared(
        self,
        prepared: PreparedImage,
        *,
        fall_back: bool = True,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> dict[str, Segmentation]:
        """Segment an image that :meth:`prepare` of this predictor made ready.

        Args:
            prepared: the image; it can be segmented once.
            fall_back: run with less where memory is short; without, OutOfMemoryError is raised at once. For images
                that are segmented beside others: alone there may be enough.
            events: as for :meth:`segment`.
            cancel: as for :meth:`segment`.

        Returns:
            The segmentation of each task.

        Raises:
            BadInputError: as for :meth:`segment`.
            OutOfMemoryError: as for :meth:`segment`.
            NonFiniteOutputError: as for :meth:`segment`.
            CancelledError: as for :meth:`segment`.
        """
        results = self._segment_all(prepared, fall_back, events, cancel)
        desheared, scale = prepared.desheared, prepared.asked.scale
        if desheared is not None:
            results = {task: desheared.restore(result, prepared.asked.box) for task, result in results.items()}
        if scale != 1:
            results = {
                task: replace(result, settings={**result.settings, "scale": scale}) for task, result in results.items()
            }
        results = {
            task: replace(result, findings=merge(prepared.checked[task], result.findings)).on_grid_of(prepared.given)
            for task, result in results.items()
        }
        if not prepared.request.instances:
            return results
        keep = prepared.request.probabilities
        return {plan.task: with_instances(results[plan.task], plan, keep_probabilities=keep) for plan in prepared.plans}

    def _segment_all(
        self, prepared: PreparedImage, fall_back: bool, events: EventSink, cancel: CancelToken | None
    ) -> dict[str, Segmentation]:
        image, plans, request = prepared.image, prepared.plans, prepared.request
        results: dict[str, Segmentation] = {}
        new: list[tuple[Finding, ...]] = []
        source, prepared.first = prepared.first, None  # so that the array goes once it is not needed any more
        for group in shared_passes(plans, self.packs):
            if cancel is not None:
                cancel.raise_if_cancelled()
            key = preprocessing_key(group[0])
            if source is None or source[0] != key:
                source = None  # the array before is not needed any more
                source = key, self._prepare(image, group[0], request, events)
            pack = self.packs.get(group[0].task)
            found, pace = self._runner.run(
                image, group, source[1], pack, request, fall_back=fall_back, events=events, cancel=cancel
            )
            self._pace = self._pace if pace is None else pace
            results.update(found)
            if not request.finish:
                continue
            # anew, not kept during the pass: a clipped copy of a CT is as large as the CT
            taken = in_the_tasks_window(image, group[0])
            with out_of_memory_means(MEMORY_REMEDY, "clean the result"):
                for plan in group:
                    results[plan.task], own = finished_result(found[plan.task], taken, plan, whole=request.box is None)
                    new.append(own)
        report(merge(*new), events)
        return {plan.task: results[plan.task] for plan in plans}

    def estimate(
        self,
        image: Image,
        tasks: str | Sequence[str],
        *,
        tta: bool = False,
        overlap: float = 0.5,
        scale: float = 1.0,
        probabilities: bool = False,
    ) -> Estimate:
        """Estimate what :meth:`segment` will need at most, before it starts.

        Air that will be cropped or skipped is not taken into account, so memory, windows and time are upper bounds.

        Args:
            image: (C, D, H, W).
            tasks: one or more tasks of the model.
            tta: as for :meth:`segment`.
            overlap: as for :meth:`segment`.
            scale: as for :meth:`segment`.
            probabilities: as for :meth:`segment`; instances need them, too.

        Returns:
            The estimate; its seconds are None until this session has segmented something (or see :meth:`measure_pace`).

        Raises:
            UsageError: a task is unknown, or the overlap or scale is not valid.
            BadInputError: the image's voxel size is impossible.
        """
        Request(tta, overlap).check(image)
        config = self.model.network.config
        loads = []
        for group in shared_passes(self._scaled_plans(tasks, None, scale), self.packs):
            load = replace(workload_before(image, group, config, overlap), probabilities=probabilities)
            loads.append((load, group, self._runner.batch_of(load.grid.window)))
        return estimate(loads, self.device, self.dtype, tta, self._pace)

    def pass_costs(
        self, image: Image, tasks: str | Sequence[str], *, overlap: float = 0.5, scale: float = 1.0
    ) -> list[float]:
        """List what each of :meth:`segment`'s passes costs, relative to the others.

        Args:
            image: (C, D, H, W).
            tasks: one or more tasks of the model.
            overlap: as for :meth:`segment`.
            scale: as for :meth:`segment`.

        Returns:
            Voxels of all windows, one number per pass.

        Raises:
            UsageError: a task is unknown, or the scale is not valid.
            BadInputError: the image's voxel size is impossible.
        """
        groups = shared_passes(self._scaled_plans(tasks, None, scale), self.packs)
        loads = [workload_before(image, group, self.model.network.config, overlap) for group in groups]
        return [float(load.windows * math.prod(load.grid.window)) for load in loads]

    def measure_pace(self, task: str) -> None:
        """Time one window of a task, so that :meth:`estimate` knows the seconds before the first image.

        Where the device's memory does not suffice for it, the seconds stay unknown.

        Args:
            task: a task of the model.

        Raises:
            UsageError: the model does not have the task.
        """
        info = self.model.info
        plan = info.plan_of(task)
        channels, number, prompt = len(plan.channels), info.task_index(task), info.modality_index(plan.modality)
        try:
            self._pace = self.engine(self.device).seconds_per_voxel(plan.patch, channels, number, prompt)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise

    def use_packs(self, packs: Mapping[str, Pack]) -> None:
        """Change which tasks run through a pack; all others run through the model alone. Nothing is reloaded.

        Args:
            packs: the pack of each task that is to run through one.

        Raises:
            UsageError: a pack does not refine its task; nothing is changed.
            BadInputError: the model is not the base of a pack; nothing is changed.
        """
        self.packs = packs_by_task(self.model, packs)

    @property
    def knows_pace(self) -> bool:
        """Whether :meth:`estimate` knows the seconds."""
        return self._pace is not None

    @property
    def seconds_per_voxel(self) -> float | None:
        """What a voxel of a window takes on the device; None until it was measured (see :meth:`measure_pace`)."""
        return self._pace

    def engine(self, device: torch.device, pack: Pack | None = None) -> Engine:
        """The network on a device; built on first use.

        A pack is merged into a copy of the weights: a window then takes no longer than with the model alone, and
        nothing changes under a pass that runs in another thread.

        Args:
            device: the device.
            pack: the pack that refines the network; None for the model alone.

        Returns:
            The network.
        """
        return self._engines(device, pack)

    def _scaled_plans(self, tasks: str | Sequence[str], modality: str | None, scale: float) -> list[TaskPlan]:
        plans = chosen_plans(self.model.info, [tasks] if isinstance(tasks, str) else tasks, modality)
        return [scaled_plan(plan, scale) for plan in plans]

    def _prepare(self, image: Image, plan: TaskPlan, request: Request, events: EventSink) -> VolumeSource | SliceSource:
        image = in_the_tasks_window(image, plan)
        if plan.dimension == 2 and not image.is_2d and plan.scheme is None:
            return SliceSource(image, plan, request.box, events)
        with out_of_memory_means(MEMORY_REMEDY):
            room = self._free(torch.device("cpu"))
            prepared = preprocess(image, plan, room=room, events=events)
            return VolumeSource(prepared, request.box, whole_grid=plan.scheme is not None)


def _slice_by_slice(image: Image, plan: TaskPlan) -> tuple[Finding, ...]:
    if plan.dimension == 3 or image.is_2d:
        return ()
    text = f"{image.name} is a volume and task {plan.task} takes 2D images: it is segmented slice by slice."
    return (Finding("slice_by_slice", text, "info"),)
