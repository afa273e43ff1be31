"""Chooses task, cases and patches: every batch is a function of the seed and the iteration's number.

Nothing is drawn from a running generator, so a resumed run, or one with more worker processes, gets exactly the batches
of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from meduniseg_core.preprocessing import IGNORED, CachedCase, TaskPlan
from meduniseg_core.training.absence import AbsenceSettings, AbsenceSource
from meduniseg_core.training.augmentation import (
    AugmentationConfig,
    DrawnSample,
    draw_sample,
    for_task,
    sample_maps,
)
from meduniseg_core.training.group import ALONE, Group


@dataclass(frozen=True)
class TaskData:
    """The training cases of one task."""

    plan: TaskPlan
    cases: tuple[CachedCase, ...]


@dataclass(frozen=True)
class Batch:
    """One task's batch: images (B, C, D, H, W) float32, labels (B, D, H, W) int64, and the names of the cases.

    ``changed`` (B, D, H, W) float32 is 1 where an annotator changed a prediction; None if no sample has a prediction.
    ``looked_at`` (B, D, H, W) float32 is 0 in parts that nobody has annotated (labels are 0 there); None if everything
    is annotated.
    """

    task: int
    images: Tensor
    labels: Tensor
    cases: tuple[str, ...]
    changed: Tensor | None = None
    looked_at: Tensor | None = None

    def pin_memory(self) -> Batch:
        """Copy the batch into page-locked memory, for the data loader.

        Returns:
            The copy.
        """
        maps = (None if weights is None else weights.pin_memory() for weights in (self.changed, self.looked_at))
        return Batch(self.task, self.images.pin_memory(), self.labels.pin_memory(), self.cases, *maps)

    def to(self, device: torch.device) -> Batch:
        """Send the batch to a device, without waiting for it.

        Args:
            device: where to.

        Returns:
            The batch there.
        """
        maps = (None if own is None else own.to(device, non_blocking=True) for own in (self.changed, self.looked_at))
        images, labels = self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True)
        return Batch(self.task, images, labels, self.cases, *maps)

    def part(self, first: int, end: int) -> Batch:
        """Some of the samples.

        Args:
            first: the first sample's position.
            end: the position behind the last one.

        Returns:
            Views of them.
        """
        own = slice(first, end)
        maps = (None if weights is None else weights[own] for weights in (self.changed, self.looked_at))
        return Batch(self.task, self.images[own], self.labels[own], self.cases[own], *maps)


@dataclass(frozen=True)
class DrawnBatch:
    """A batch whose samples are drawn and read, and are augmented on the device (`augmentation.on_device`)."""

    task: int
    samples: tuple[DrawnSample, ...]
    cases: tuple[str, ...]
    sparse: bool  # parts may be without labels

    def pin_memory(self) -> DrawnBatch:
        """Copy the batch into page-locked memory, for the data loader.

        Returns:
            The copy.
        """
        return DrawnBatch(self.task, tuple(sample.pin_memory() for sample in self.samples), self.cases, self.sparse)

    def finished(self, device: torch.device) -> Batch:
        """Augment the samples.

        Args:
            device: where to.

        Returns:
            The batch, on the device.
        """
        done = [sample.finished(device) for sample in self.samples]
        images, maps = [image for image, _ in done], [own for _, own in done]
        return _batch(self.task, images, maps, self.cases, sparse=self.sparse)


@dataclass(frozen=True)
class _Source:
    """An image (C, D, H, W), its label maps (D, H, W), and the patch's centre (voxels) and zoom in it."""

    case: str
    data: np.ndarray
    maps: tuple[np.ndarray, ...]
    centre: tuple[int, int, int]
    zoom: float | None = None


class BatchSource(Dataset["Batch | DrawnBatch"]):
    """A data set whose item ``i`` is the batch of iteration ``i``.

    A batch holds one task. Within an epoch each task has ``iterations_per_task`` batches, in random order (docs/spec.md
    section 6), or more and fewer by ``task_shares`` and by the number of its cases to the power of ``sampling_power``
    (:func:`batches_by_task`). Of a batch, an item holds the samples that are ``group``'s share, each the same whoever
    prepares it. The last third of a batch is centred on a random voxel of a random foreground class of the case. A
    share ``correction_oversampling`` of all samples is centred on a voxel that an annotator changed instead.
    ``absence`` says for which tasks how many samples lack the target. Augmentation depends on the task's modality
    (`augmentation.presets`). With ``on_device`` samples are only drawn, for tasks whose augmentation a device can do:
    those without changes of appearance.
    """

    def __init__(
        self,
        tasks: Sequence[TaskData],
        iterations_per_task: int,
        total: int,
        seed: int,
        oversampling: float,
        augmentation: AugmentationConfig,
        correction_oversampling: float = 0.0,
        absence: Mapping[str, AbsenceSettings] | None = None,
        task_shares: Mapping[str, float] | None = None,
        sampling_power: float = 0.0,
        group: Group = ALONE,
        *,
        on_device: bool = False,
    ) -> None:
        self._tasks = tuple(tasks)
        self._on_device = on_device
        self._group = group
        self._corrected = [[case for case in data.cases if len(case.changed_voxels)] for data in self._tasks]
        self._correction_oversampling = correction_oversampling
        shares = [
            (task_shares or {}).get(data.plan.task, 1.0) * len(data.cases) ** sampling_power for data in self._tasks
        ]
        self._counts = batches_by_task(shares, iterations_per_task)
        self._total = total
        self._seed = seed
        self._oversampling = oversampling
        self._augmentation = [for_task(augmentation, data.plan.modality, data.plan.dimension) for data in self._tasks]
        cases = {data.plan.task: data.cases for data in self._tasks}
        self._absent = {
            position: AbsenceSource(data.plan, data.cases, (absence or {})[data.plan.task], cases)
            for position, data in enumerate(self._tasks)
            if data.plan.task in (absence or {})
        }

    def __len__(self) -> int:
        return self._total

    def task_of(self, iteration: int) -> int:
        """The task of an iteration.

        Args:
            iteration: counted from 0.

        Returns:
            The task's index among the run's tasks.
        """
        epoch, position = divmod(iteration, sum(self._counts))
        order = np.repeat(np.arange(len(self._tasks)), self._counts)
        np.random.default_rng([self._seed, 0, epoch]).shuffle(order)
        return int(order[position])

    def __getitem__(self, iteration: int) -> Batch | DrawnBatch:
        task = self.task_of(iteration)
        data, augmentation = self._tasks[task], self._augmentation[task]
        drawn: list[DrawnSample] = []
        images, maps, names = [], [], []
        size = data.plan.batch
        for index in self._group.share_of(size):
            rng = np.random.default_rng([self._seed, 1, iteration, index])
            source = self._source(task, rng, forced=index >= round(size * (1 - self._oversampling)))
            names.append(source.case)
            place = (source.data, source.maps, source.centre, data.plan.patch, data.plan.mirror_axes, rng, augmentation)
            if self._on_device and not augmentation.appearance.active:
                drawn.append(draw_sample(*place, spacing=data.plan.spacing, zoom=source.zoom))
                continue
            image, own = sample_maps(*place, spacing=data.plan.spacing, zoom=source.zoom)
            images.append(torch.as_tensor(image))
            maps.append(torch.as_tensor(own))
        if drawn:
            sparse = any(bool((sample.maps[0] == IGNORED).any()) for sample in drawn)
            return DrawnBatch(task, tuple(drawn), tuple(names), sparse)
        if not names:  # more processes than samples: this one has none
            shape = (0, *data.plan.patch)
            images_here = torch.empty((0, len(data.plan.channels), *data.plan.patch))
            return Batch(task, images_here, torch.empty(shape, dtype=torch.int64), ())
        sparse = any(bool((own[0] == IGNORED).any()) for own in maps)
        return _batch(task, images, maps, tuple(names), sparse=sparse)

    def _source(self, task: int, rng: np.random.Generator, forced: bool) -> _Source:
        """The place that the next sample is taken from."""
        absent = self._absent.get(task)
        if absent is not None and rng.random() < absent.share:
            found = absent.draw(rng)
            if found is not None:
                return _Source(found.case, found.data, (found.seg,), found.centre, found.zoom)
        case, centre = self._draw(task, rng, forced)
        changed = case.changed
        return _Source(case.case, case.data, (case.seg,) if changed is None else (case.seg, changed), centre)

    def _draw(self, task: int, rng: np.random.Generator, forced: bool) -> tuple[CachedCase, tuple[int, int, int]]:
        """Draw a case and the centre of the patch."""
        data, corrected, share = self._tasks[task], self._corrected[task], self._correction_oversampling
        if share > 0 and corrected and rng.random() < share:
            case = corrected[int(rng.integers(len(corrected)))]
            d, h, w = case.changed_voxels[int(rng.integers(len(case.changed_voxels)))]
            return case, (int(d), int(h), int(w))
        case = data.cases[int(rng.integers(len(data.cases)))]
        return case, self._centre(case, case.shape, data.plan, rng, forced)

    @staticmethod
    def _centre(
        case: CachedCase, shape: tuple[int, ...], plan: TaskPlan, rng: np.random.Generator, forced: bool
    ) -> tuple[int, int, int]:
        if forced:
            present = sorted(label for label, voxels in case.foreground.items() if len(voxels))
            if present:
                voxels = case.foreground[present[int(rng.integers(len(present)))]]
                d, h, w = voxels[int(rng.integers(len(voxels)))]
                return int(d), int(h), int(w)
        if case.looked_at is not None and len(case.looked_at):
            d, h, w = case.looked_at[int(rng.integers(len(case.looked_at)))]
            return int(d), int(h), int(w)
        # any centre whose patch stays inside the image; the middle where the image is smaller than the patch
        low = [min(p // 2, s // 2) for p, s in zip(plan.patch, shape, strict=True)]
        high = [max(s - (p - p // 2), s // 2) for p, s in zip(plan.patch, shape, strict=True)]
        d, h, w = (int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True))
        return d, h, w


def _batch(
    task: int, images: Sequence[Tensor], maps: Sequence[Tensor], names: tuple[str, ...], *, sparse: bool
) -> Batch:
    """Samples as a batch: images (C, D, H, W), label maps (K, D, H, W), of which the second says what was changed."""
    changes = None
    if any(len(own) > 1 for own in maps):
        changes = torch.stack(
            [own[1].float() if len(own) > 1 else own.new_zeros(own[0].shape, dtype=torch.float32) for own in maps]
        )
    labels = torch.stack([own[0].long() for own in maps])
    looked_at = None
    if sparse:
        unknown = labels == IGNORED
        labels, looked_at = labels.masked_fill(unknown, 0), (~unknown).float()
    return Batch(task, torch.stack(list(images)), labels, names, changes, looked_at)


def batches_by_task(shares: Sequence[float], iterations_per_task: int) -> list[int]:
    """How many batches of an epoch each task gets.

    Args:
        shares: how a task's number of batches compares with the others'; all the same: the paper.
        iterations_per_task: the mean over the tasks.

    Returns:
        A number for each task, at least 1; they add up to ``iterations_per_task`` times the number of tasks.
    """
    total = iterations_per_task * len(shares)
    weights = np.asarray(shares, dtype=float)
    # one for each task, the rest by share; what rounding leaves goes to the largest remainders
    wanted = (total - len(shares)) * weights / weights.sum()
    counts = np.floor(wanted + 1e-9).astype(int)
    order = np.argsort(counts - wanted, kind="stable")
    counts[order[: total - len(shares) - counts.sum()]] += 1
    return [int(count) + 1 for count in counts]


def batches_from(
    source: BatchSource, start: int, workers: int, pin: bool, device: torch.device | None = None
) -> Iterator[Batch]:
    """Prepare batches in advance.

    Args:
        source: the run's batches.
        start: the first iteration.
        workers: number of processes; 0 prepares the batches in this one.
        pin: copy them into page-locked memory.
        device: where drawn batches are augmented; None: on the CPU.

    Returns:
        The batches in the order of the iterations; on a GPU the next one is sent and augmented during a step.
    """
    loader: DataLoader[Batch | DrawnBatch] = DataLoader(
        source,
        batch_size=None,
        sampler=range(start, len(source)),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        collate_fn=None,
    )
    on = device or torch.device("cpu")
    if on.type == "cuda":
        return _sent_ahead(iter(loader), on)
    return (_finished(batch, on) for batch in loader)


def _finished(batch: Batch | DrawnBatch, device: torch.device) -> Batch:
    return batch.finished(device) if isinstance(batch, DrawnBatch) else batch.to(device)


def _sent_ahead(batches: Iterator[Batch | DrawnBatch], device: torch.device) -> Iterator[Batch]:
    """Send and augment one batch ahead, on a stream of its own, beside the step that the device is at."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = _finished(batch, device)
        if ahead is not None:
            yield _waited_for(ahead, stream)
        ahead = following
    if ahead is not None:
        yield _waited_for(ahead, stream)


def _waited_for(batch: Batch, stream: torch.cuda.Stream) -> Batch:
    current = torch.cuda.current_stream(batch.images.device)
    current.wait_stream(stream)
    for tensor in (batch.images, batch.labels, batch.changed, batch.looked_at):
        if tensor is not None:
            tensor.record_stream(current)  # its memory belongs to the other stream
    return batch
