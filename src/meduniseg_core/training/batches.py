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
from meduniseg_core.training.augmentation import AugmentationConfig, for_task, sample_maps
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
class _Source:
    """An image (C, D, H, W), its label maps (D, H, W), and the patch's centre (voxels) and zoom in it."""

    case: str
    data: np.ndarray
    maps: tuple[np.ndarray, ...]
    centre: tuple[int, int, int]
    zoom: float | None = None


class BatchSource(Dataset[Batch]):
    """A data set whose item ``i`` is the batch of iteration ``i``.

    A batch holds one task. Within an epoch each task has ``iterations_per_task`` batches, in random order (docs/spec.md
    section 6), or more and fewer by ``task_shares`` and by the number of its cases to the power of ``sampling_power``
    (:func:`batches_by_task`). Of a batch, an item holds the samples that are ``group``'s share, each the same whoever
    prepares it. The last third of a batch is centred on a random voxel of a random foreground class of the case. A
    share ``correction_oversampling`` of all samples is centred on a voxel that an annotator changed instead.
    ``absence`` says for which tasks how many samples lack the target. Augmentation depends on the task's modality
    (`augmentation.presets`).
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
    ) -> None:
        self._tasks = tuple(tasks)
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

    def __getitem__(self, iteration: int) -> Batch:
        task = self.task_of(iteration)
        data = self._tasks[task]
        size = data.plan.batch
        first_forced = round(size * (1 - self._oversampling))
        images, maps, names = [], [], []
        for index in self._group.share_of(size):
            rng = np.random.default_rng([self._seed, 1, iteration, index])
            source = self._source(task, rng, forced=index >= first_forced)
            image, own = sample_maps(
                source.data,
                source.maps,
                source.centre,
                data.plan.patch,
                data.plan.mirror_axes,
                rng,
                self._augmentation[task],
                spacing=data.plan.spacing,
                zoom=source.zoom,
            )
            images.append(torch.as_tensor(image))
            maps.append(torch.as_tensor(own))
            names.append(source.case)
        if not names:  # more processes than samples: this one has none
            shape = (0, *data.plan.patch)
            images_here = torch.empty((0, len(data.plan.channels), *data.plan.patch))
            return Batch(task, images_here, torch.empty(shape, dtype=torch.int64), ())
        changes = None
        if any(len(own) > 1 for own in maps):
            changes = torch.stack([own[1].float() if len(own) > 1 else torch.zeros(own[0].shape) for own in maps])
        labels = torch.stack([own[0].long() for own in maps])
        unknown, looked_at = labels == IGNORED, None
        if bool(unknown.any()):
            labels[unknown], looked_at = 0, (~unknown).float()
        return Batch(task, torch.stack(images), labels, tuple(names), changes, looked_at)

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


def batches_from(source: BatchSource, start: int, workers: int, pin: bool) -> Iterator[Batch]:
    """Prepare batches in advance.

    Args:
        source: the run's batches.
        start: the first iteration.
        workers: number of processes; 0 prepares the batches in this one.
        pin: copy them into page-locked memory.

    Returns:
        The batches in the order of the iterations.
    """
    loader: DataLoader[Batch] = DataLoader(
        source,
        batch_size=None,
        sampler=range(start, len(source)),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        collate_fn=None,
    )
    return iter(loader)
