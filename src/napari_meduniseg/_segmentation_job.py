"""From the user's choices to a request for the core, and its answer. Knows no Qt."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes

from meduniseg_core.checks.image_checks import look_before
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box, box_shape
from meduniseg_core.images.findings import Finding, merge
from meduniseg_core.images.modality_guess import ModalityGuess, guess_modality
from meduniseg_core.images.oriented import oriented_as_said
from meduniseg_core.inference import Predictor, Segmentation
from meduniseg_core.inference.classification import check_head, segment_with_head
from meduniseg_core.inference.derived import Derived, derived_measures
from meduniseg_core.inference.run_times import RunTimes, WholeProgress
from meduniseg_core.inference.segmentation import ClassRow
from meduniseg_core.paths import user_folder
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.working_size import readable_bytes
from meduniseg_core.weights import PackRegistry, Registry, load_model
from meduniseg_core.weights.classifier import ClassifierHead, read_head
from napari_meduniseg._compute_options import ComputeOptions
from napari_meduniseg._durations import duration_range
from napari_meduniseg._foreign import left_out
from napari_meduniseg._layer_input import LayerImage, LayerSnapshot, read_layers, snapshot_layers
from napari_meduniseg._region import Region, shapes_box, slice_box


@dataclass(frozen=True)
class Said:
    """What the user said about an image because its file does not: see ``Predictor.segment``."""

    scale: float = 1.0
    orientation: str | None = None


@dataclass(frozen=True)
class SegmentChoice:
    """What the user chose. ``layers``: one, or one per channel in the task's order.

    ``models`` names another model than ``model`` for tasks that have one in use; without ``packs`` none is used.
    """

    layers: tuple[ImageLayer, ...]
    tasks: tuple[str, ...]
    model: str = "starter"
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    region: Region = "volume"
    shapes: Shapes | None = None
    said: Said = field(default_factory=lambda: Said())
    models: Mapping[str, str] = field(default_factory=dict)
    packs: bool = True

    def by_model(self) -> dict[str, list[str]]:
        """The tasks of each model, in their order."""
        found: dict[str, list[str]] = {}
        for task in self.tasks:
            found.setdefault(self.models.get(task, self.model), []).append(task)
        return found


@dataclass(frozen=True)
class SegmentationJob:
    """A choice prepared in the GUI's thread, to be run in another one; it depends on no layer's changing state.

    Its voxels were not read yet: the layers may be lazy.
    """

    choice: SegmentChoice
    snapshots: tuple[LayerSnapshot, ...]
    box: Box | None


@dataclass(frozen=True)
class Outcome:
    """The result of a segmentation job: its image, and for each task the segmentation and its table."""

    taken: LayerImage
    results: dict[str, Segmentation]
    tables: dict[str, list[ClassRow]]
    derived: dict[str, list[Derived]] = field(default_factory=dict)
    seconds: float = 0.0  # for all tasks, from the click to the labels


@dataclass(frozen=True)
class Looked:
    """What was found out about an image: findings by task ("" for those of no task), and what it may be of."""

    findings: dict[str, tuple[Finding, ...]]
    guess: ModalityGuess = field(default_factory=lambda: ModalityGuess(None, ()))


@dataclass(frozen=True)
class Forecast:
    """What a run of all tasks will take: bytes at most, and seconds from ``low`` to ``high`` (None: not known).

    ``estimate`` is the seconds that the network alone was estimated to take.
    """

    bytes: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    server: str = ""  # which computes instead of this machine
    unused_head: str = ""  # the task of a head of classes that is not ticked

    @property
    def text(self) -> str:
        """The forecast as one line of text."""
        if self.server:
            return f"It is computed on {self.server}"
        memory = f"At most {readable_bytes(self.bytes)} of memory"
        whole = memory if self.time is None else f"{memory}, {self.time}"
        return f"{whole}. No class of the image: the head is for {self.unused_head}" if self.unused_head else whole

    @property
    def time(self) -> str | None:
        """The time as text."""
        return None if self.low is None or self.high is None else duration_range(self.low, self.high)


@dataclass
class Predictors:
    """The predictors that were used last, by model; another choice's models, device or precision replace them."""

    _found: dict[str, tuple[tuple[object, ...], Predictor]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, choice: SegmentChoice, name: str | None = None) -> Predictor:
        """Load a model (the choice's, or that of this name) if it is not at hand, with the packs in use on it.

        A forecast and a run may ask at the same time; one then waits for the other.
        """
        name = name or choice.model
        with self._lock:
            wanted = {name, *choice.by_model()}
            self._found = {model: pair for model, pair in self._found.items() if model in wanted}
            known, packs = self._found.pop(name, None), PackRegistry()
            if known is None or known[0] != self._key_of(choice, name, known[1].model.sha256, packs):
                known = None  # frees the memory of the one before
                model = load_model(name)
                used = packs.active_packs(model) if choice.packs else {}
                found = Predictor(model, choice.compute.device, choice.compute.precision, packs=used)
                known = self._key_of(choice, name, model.sha256, packs), found
            self._found[name] = known
            return known[1]

    @staticmethod
    def _key_of(choice: SegmentChoice, name: str, sha256: str, packs: PackRegistry) -> tuple[object, ...]:
        """What must be the same for a predictor to serve the choice; a file that was replaced is another."""
        file = Registry().find(name).path.stat()
        used = packs.active(sha256) if choice.packs else {}
        files = [packs.recorded(name) for name in used.values()]
        return (
            name,
            file.st_mtime_ns,
            file.st_size,
            choice.compute.device,
            choice.compute.precision,
            *used.items(),
            *files,
        )


def modalities_for(plans: Iterable[TaskPlan], order: Sequence[str]) -> list[str]:
    """The modalities of which there is a task, in this order."""
    present = {plan.modality for plan in plans}
    return [name for name in order if name in present] or sorted(present)


def tasks_for(plans: Iterable[TaskPlan], modality: str | None, flat: bool | None) -> list[TaskPlan]:
    """The tasks that an image of this modality can get; ``flat``: 2D (None where nothing is chosen).

    ``flat`` tells whether the image is 2D (None where no image is chosen). A 2D image does not suit a 3D task; a volume
    suits a 2D task, slice by slice.
    """
    return [
        plan for plan in plans if (modality is None or plan.modality == modality) and not (flat and plan.dimension == 3)
    ]


def is_flat(layer: ImageLayer) -> bool:
    """Whether the layer holds one 2D image."""
    return bool(layer.ndim == 2)


def prepare_job(choice: SegmentChoice, viewer: ViewerModel) -> SegmentationJob:
    """Take a snapshot of the layers and find the region's box. UsageError or BadInputError says what is missing."""
    if not choice.layers:
        raise UsageError("There is no image; open one (File > Open).")
    if not choice.tasks:
        raise UsageError("No task is chosen; tick at least one.")
    snapshots = snapshot_layers(choice.layers)
    layer = choice.layers[0]
    box: Box | None = None
    if choice.region == "slice":
        box = slice_box(layer, snapshots[0], viewer)
    elif choice.region == "box":
        box = shapes_box(layer, snapshots[0], choice.shapes)
    return SegmentationJob(choice, snapshots, box)


def run_job(job: SegmentationJob, predictors: Predictors, events: EventSink, cancel: CancelToken) -> Outcome:
    """Read the image and segment it, in a worker's thread. Raises BadInputError for voxels that are not numbers."""
    began = time.perf_counter()
    choice = job.choice
    taken = _taken(job.snapshots)
    cancel.raise_if_cancelled()
    if choice.compute.server:
        results = _elsewhere(job, taken.image, events, cancel)
        tables = {task: result.table() for task, result in results.items()}
        return Outcome(taken, results, tables, _derived(results), time.perf_counter() - began)
    results = {}
    before, head = forecast(job, predictors), _head(choice)
    events = WholeProgress(_costs(job, predictors), events)
    for model, tasks in choice.by_model().items():
        predictor = predictors.get(choice, model)
        cancel.raise_if_cancelled()
        segment: Callable[..., dict[str, Segmentation]] = predictor.segment
        if head is not None and head.task in tasks:
            segment = partial(segment_with_head, predictor, head=head)
        results |= segment(
            taken.image,
            tasks,
            tta=choice.compute.tta,
            overlap=choice.compute.overlap,
            box=job.box,
            probabilities=choice.compute.probabilities,
            instances=choice.compute.boxes,
            scale=choice.said.scale,
            orientation=choice.said.orientation,
            events=events,
            cancel=cancel,
        )
    tables = {task: result.table() for task, result in results.items()}
    seconds = time.perf_counter() - began
    if before.estimate is not None:
        run_times(choice).note(before.estimate, seconds)
    return Outcome(taken, results, tables, _derived(results), seconds)


def _elsewhere(job: SegmentationJob, image: Image, events: EventSink, cancel: CancelToken) -> dict[str, Segmentation]:
    """Have a server segment the image."""
    from meduniseg_core.serving.client import RemoteRequest, Server, segment_on_server

    choice = job.choice
    compute = choice.compute
    if compute.probabilities or compute.boxes or compute.head is not None:
        what = "untick Probabilities" if compute.probabilities else "untick Lesions as boxes"
        what = what if compute.probabilities or compute.boxes else "clear Class head"
        raise UsageError(f"A server sends labels alone; {what}, or clear Server.")
    request = RemoteRequest(
        choice.tasks,
        choice.compute.tta,
        choice.compute.overlap,
        job.box,
        choice.said.scale,
        choice.said.orientation,
        choice.packs,
    )
    return segment_on_server(Server.at(choice.compute.server), image, request, events=events, cancel=cancel)


def _costs(job: SegmentationJob, predictors: Predictors) -> list[float]:
    choice, outline = job.choice, job.snapshots[0].outline
    return [
        cost
        for model, tasks in choice.by_model().items()
        for cost in predictors.get(choice, model).pass_costs(
            outline, tasks, overlap=choice.compute.overlap, scale=choice.said.scale
        )
    ]


def run_times(choice: SegmentChoice) -> RunTimes:
    """What former runs on the choice's device took on this machine."""
    device = "".join(c for c in choice.compute.device if c.isalnum())
    return RunTimes(user_folder() / f"run_times_{device}.json")


def seen_at_once(snapshots: Sequence[LayerSnapshot], said: Said) -> tuple[Finding, ...]:
    """What is known about the image without its voxels or its file. It is quick, for the GUI's thread."""
    return merge(*(oriented_as_said(item.outline, said.orientation).findings for item in snapshots))


def look_at_image(snapshots: tuple[LayerSnapshot, ...], plans: Sequence[TaskPlan], said: Said | None = None) -> Looked:
    """Find out what the image is, and what speaks against segmenting it.

    It reads the voxels, so it runs in a worker's thread. Raises BadInputError for voxels that are not numbers.
    """
    said = said or Said()
    image = _taken(snapshots).image
    findings = {plan.task: look_before(image, plan, said.scale, said.orientation) for plan in plans}
    return Looked(findings or {"": left_out(snapshots)}, guess_modality(image))


def _taken(snapshots: tuple[LayerSnapshot, ...]) -> LayerImage:
    """The image, with findings about what another reader left out."""
    taken = read_layers(snapshots)
    return replace(taken, image=taken.image.with_findings(*left_out(snapshots)))


def findings_for(
    at_once: Sequence[Finding], found: Mapping[str, Sequence[Finding]], tasks: Sequence[str]
) -> tuple[Finding, ...]:
    """The findings to show for ``tasks``, each once; without tasks those that hold for every one.

    What was ``found`` replaces what was seen ``at_once``.
    """
    of_tasks = merge(*(found.get(task, ()) for task in tasks or found))
    if not tasks:
        of_tasks = tuple(one for one in of_tasks if all(one in of_task for of_task in found.values()))
    codes = {finding.code for finding in of_tasks}
    return merge((finding for finding in at_once if finding.code not in codes), of_tasks)


def forecast(job: SegmentationJob, predictors: Predictors) -> Forecast:
    """Estimate what `run_job` will take for all tasks. It reads no voxels, but may load models: for a thread.

    UsageError where the head of classes is another network's.
    """
    choice = job.choice
    if choice.compute.server:
        return Forecast(0, server=choice.compute.server)
    parts, head = [], _head(choice)
    for model, tasks in choice.by_model().items():
        predictor = predictors.get(choice, model)
        if head is not None and head.task in tasks:
            check_head(predictor, head)
        if not predictor.knows_pace:
            predictor.measure_pace(tasks[0])
        outline, scale = job.snapshots[0].outline, choice.said.scale
        found = predictor.estimate(outline, tasks, tta=choice.compute.tta, overlap=choice.compute.overlap, scale=scale)
        parts.append((found.bytes + found.device_bytes, found.seconds, found.windows))
    most = max(part[0] for part in parts)
    seconds = [_in_box(job, seconds, windows) for _, seconds, windows in parts if seconds is not None]
    unused = "" if head is None or head.task in choice.tasks else head.task
    if len(seconds) < len(parts):
        return Forecast(most, unused_head=unused)
    return Forecast(most, sum(seconds), *run_times(choice).expect(sum(seconds)), unused_head=unused)


def _head(choice: SegmentChoice) -> ClassifierHead | None:
    return None if choice.compute.head is None else read_head(choice.compute.head)


def _in_box(job: SegmentationJob, seconds: float, windows: int) -> float:
    """The share of the seconds that a part of the image takes: at least one window's."""
    if job.box is None:
        return seconds
    share = math.prod(box_shape(job.box)) / math.prod(job.snapshots[0].shape)
    return seconds * max(share, 1 / max(1, windows))


def recount(outcome: Outcome, now: dict[str, np.ndarray]) -> Outcome:
    """Compute the tables of the labels as they are ``now``, by task, in a worker's thread."""
    tables: dict[str, list[ClassRow]] = {}
    derived: dict[str, list[Derived]] = {}
    for task, shown in now.items():
        result = outcome.results[task]
        known = np.where(shown <= len(result.class_names), shown, 0).astype(result.labels.array.dtype)
        back = outcome.taken.change.inverse(known[None, None] if known.ndim == 2 else known[None])
        corrected = replace(result, labels=result.labels.with_array(np.ascontiguousarray(back)))
        tables[task] = corrected.table()
        derived |= _derived({task: corrected})
    return replace(outcome, tables=tables, derived=derived)


def _derived(results: Mapping[str, Segmentation]) -> dict[str, list[Derived]]:
    return {task: derived_measures(result.labels, result.class_names) for task, result in results.items()}
