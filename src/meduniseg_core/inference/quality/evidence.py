"""What one pass shows about its own result: how sure the network is where, and what its encoder saw.

Everything is summed up while the sliding window runs, on the network's grid; neither logits nor features are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.export import strongest
from meduniseg_core.inference.sliding_window import Sink
from meduniseg_core.inference.windows import WindowGrid, overlap_of
from meduniseg_core.model.features import Features
from meduniseg_core.preprocessing import TaskPlan

_CHUNK_ELEMENTS = 1 << 22  # probabilities are computed in pieces of about this size
_HOT = -4.0  # logit against the background below which a voxel has no share in any class
_UNSURE = 0.4  # a probability so near 1/2
_MOST = 8.0  # a logit beyond it says no more
_VOTE_STEP: Shape3 = (2, 4, 4)  # windows are compared at every so many voxels
_POOLED_STAGE = -3  # the third last: fine enough to tell kinds of images apart (experiments/quality)


@dataclass(frozen=True)
class ClassEvidence:
    """Sums over the network's grid for one class.

    ``voxels`` were given to the class, ``inside`` is their total probability of it and ``margin`` that of their logits
    (log-odds, at most 8). ``total``: the probability everywhere; ``unsure``: voxels of a probability between 0.1 and
    0.9. ``border``: voxels of the class beside others (in plane), ``border_entropy`` their entropies in bits. ``peak``:
    the highest logit against the background. ``votes``: how often overlapping windows had a say on a voxel that one of
    them gave to the class, ``agreed`` how many of these said the same. ``centre`` of the class along (d, h, w), 0 to 1.
    """

    voxels: float
    inside: float
    margin: float
    total: float
    unsure: float
    border: float
    border_entropy: float
    peak: float
    votes: float
    agreed: float
    centre: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a pass shows of one task on one image: its ``classes``, in the plan's order, and its mean ``features``.

    ``voxels`` of the network's grid were looked at. ``features`` is float64 (n,): over all windows the means of a
    stage's channels, then mean and spread of the task's prior where the network has priors; empty where nothing was
    run.
    """

    voxels: int
    classes: tuple[ClassEvidence, ...]
    features: npt.NDArray[np.float64]


class EvidenceCollector:
    """Gathers the evidence of one task in one pass.

    Args:
        plan: the task's.
    """

    def __init__(self, plan: TaskPlan) -> None:
        self._regions = plan.region_labels
        self._ids = tuple(range(1, plan.class_count)) if self._regions is None else self._regions
        self._classes = len(plan.classes)
        self._rows = torch.zeros((10, plan.outputs), dtype=torch.float64)
        self._peaks = torch.full((plan.outputs,), -torch.inf)
        self._votes = torch.zeros((2, plan.outputs + (self._regions is not None)), dtype=torch.float64)
        self._voxels = self._planes = 0
        self._size = 1, 1
        self.pool: FeaturePool | None = None

    def sink(self, sink: Sink) -> Sink:
        """Collect evidence from logits on their way to a sink.

        Args:
            sink: receives the logits.

        Returns:
            A sink that takes the logits, looks at them and passes them on.
        """
        return _Look(self, sink)

    def votes(self, grid: WindowGrid) -> WindowVotes:
        """Compare overlapping windows.

        Args:
            grid: the windows.

        Returns:
            What takes the logits of every window.
        """
        return WindowVotes(grid, self._votes, self._regions is not None)

    def look(self, logits: Tensor) -> None:
        """Add planes.

        Args:
            logits: final ones, float32 (outputs, planes, h, w).
        """
        outputs, planes, height, width = logits.shape
        self._voxels += planes * height * width
        self._size = height, width
        step = max(1, _CHUNK_ELEMENTS // max(1, outputs * height * width))
        for first in range(0, planes, step):
            self._look(logits[:, first : first + step], self._planes + first)
        self._planes += planes

    def _look(self, logits: Tensor, first: int) -> None:
        against = logits if self._regions is not None else logits[1:] - logits[0]
        peaks = against.amax(dim=(1, 2, 3)).float().cpu()
        own = self._peaks if self._regions is not None else self._peaks[1:]
        torch.maximum(own, peaks, out=own)
        if float(peaks.max()) <= _HOT:
            return
        hot = against.amax(dim=(0, 1)) > _HOT
        rows, columns = _extent(hot.any(dim=1)), _extent(hot.any(dim=0))
        part = logits[:, :, rows, columns]
        shares = part.softmax(dim=0) if self._regions is None else _exclusive(part.sigmoid())
        if self._regions is None:
            labels, best = strongest(part), shares.amax(dim=0)
        else:  # the later region over the earlier; what is in none comes behind them all
            labels = torch.full(part.shape[1:], len(part), device=part.device)
            for position, region in enumerate(part):
                labels.masked_fill_(region > 0, position)
            best = torch.cat([shares, torch.zeros_like(shares[:1])]).gather(0, labels[None])[0]
        edge = torch.zeros_like(labels, dtype=torch.bool)
        for axis in (1, 2):
            size = labels.shape[axis]
            if size > 1:
                differs = labels.narrow(axis, 1, size - 1) != labels.narrow(axis, 0, size - 1)
                edge.narrow(axis, 1, size - 1).logical_or_(differs)
                edge.narrow(axis, 0, size - 1).logical_or_(differs)
        bounded = best.clamp(1e-6, 1 - 1e-6)
        count = shares.shape[0] + (self._regions is not None)
        ids = labels.flatten()
        rim = edge.flatten().nonzero()[:, 0]
        sure = bounded.flatten()[rim]
        entropy = -(sure * sure.log2() + (1 - sure) * (1 - sure).log2())
        found = torch.bincount(ids, minlength=count)
        sums = [
            found,
            torch.bincount(ids, best.flatten(), minlength=count),
            torch.bincount(ids, bounded.logit().clamp(-_MOST, _MOST).flatten(), minlength=count),
            shares.sum(dim=(1, 2, 3)),
            ((shares - 0.5).abs_() < _UNSURE).sum(dim=(1, 2, 3)),
            torch.bincount(ids[rim], minlength=count),
            torch.bincount(ids[rim], entropy, minlength=count),
            *(
                found * (start + 0.5)
                if labels.shape[axis] == 1
                else torch.bincount(ids, _places(labels, axis, start).flatten(), minlength=count)
                for axis, start in enumerate((first, rows.start, columns.start))
            ),
        ]
        self._rows += torch.stack([row[: shares.shape[0]].double() for row in sums]).cpu()

    def result(self) -> Evidence:
        """Compute the evidence from the sums.

        Returns:
            The evidence of what was gathered.
        """
        empty = ClassEvidence(0, 0, 0, 0, 0, 0, 0, -4 * _MOST, 0, 0)
        found = [empty] * self._classes
        first = 0 if self._regions is not None else 1
        for position, label in enumerate(self._ids, start=first):
            voxels, inside, margin, total, unsure, border, entropy, *places = map(float, self._rows[:, position])
            sizes = max(self._planes, 1), *self._size
            d, h, w = (place / max(voxels, 1.0) / size for place, size in zip(places, sizes, strict=True))
            centre = (d, h, w) if voxels else (0.5, 0.5, 0.5)
            peak = min(max(float(self._peaks[position]), -4 * _MOST), 4 * _MOST)
            agreed, votes = (float(value) for value in self._votes[:, position])
            found[label - 1] = ClassEvidence(
                voxels, inside, margin, total, unsure, border, entropy, peak, votes, agreed, centre
            )
        features = np.zeros(0) if self.pool is None else self.pool.result()
        return Evidence(self._voxels, tuple(found), features)


class _Look:
    def __init__(self, collector: EvidenceCollector, sink: Sink) -> None:
        self._collector = collector
        self._sink = sink

    def write(self, first: int, logits: Tensor) -> None:
        self._collector.look(logits)
        self._sink.write(first, logits)


class WindowVotes:
    """Compares what each window says of a voxel with what the one before it said, at some of the voxels."""

    def __init__(self, grid: WindowGrid, totals: Tensor, regions: bool) -> None:
        self._grid = grid
        self._totals = totals
        self._regions = regions
        d, h, w = (step if size > 1 else 1 for step, size in zip(_VOTE_STEP, grid.window, strict=True))
        self._step = d, h, w
        self._last: Tensor | None = None

    def add(self, starts: Sequence[Shape3], logits: Tensor) -> None:
        """Take windows.

        Args:
            starts: their first voxels.
            logits: (B, outputs, d, h, w).
        """
        if len(self._grid) < 2:
            return
        if self._last is None:
            shape = [-(-(high - low) // step) for (low, high), step in zip(self._grid.region, self._step, strict=True)]
            self._last = torch.full(shape, -1, dtype=torch.int16, device=logits.device)
        for sample, start in zip(logits, starts, strict=True):
            part = overlap_of(start, self._grid.window, self._grid.region)
            if part is None:
                continue
            inside, outside = [], []
            for within, of_region, step in zip(*part, self._step, strict=True):
                skip = -of_region.start % step
                inside.append(slice(within.start + skip, within.stop, step))
                outside.append(slice((of_region.start + skip) // step, -(-of_region.stop // step)))
            values = sample[(slice(None), *inside)]
            if self._regions:
                values = torch.cat([values, torch.zeros_like(values[:1])])
            said = strongest(values).to(torch.int16)
            before = self._last[tuple(outside)]
            known = before >= 0
            new, old = said[known].int(), before[known].int()
            count = values.shape[0]
            same = torch.bincount(new[new == old], minlength=count)
            either = torch.bincount(new, minlength=count) + torch.bincount(old, minlength=count)
            self._totals += torch.stack([2 * same, either]).double().cpu()
            before.copy_(said)


class FeaturePool:
    """The mean of an encoder's features over all windows of a pass.

    Args:
        task: the task's channel among the priors.
    """

    def __init__(self, task: int) -> None:
        self._task = task
        self._sum: Tensor | None = None
        self._windows = 0

    def add(self, pooled: Tensor, priors: Tensor | None) -> None:
        """Take a batch of windows.

        Args:
            pooled: what :func:`pooled_stage` made of its features, (B, n).
            priors: the task priors (B, N, ...), or None.
        """
        rows = [pooled]
        if priors is not None:
            own = priors[:, self._task].flatten(1).float()
            rows.append(torch.stack([own.mean(dim=1), own.std(dim=1, correction=0)], dim=1))
        total = torch.cat(rows, dim=1).double().sum(dim=0)
        self._sum = total if self._sum is None else self._sum + total
        self._windows += pooled.shape[0]

    def result(self) -> npt.NDArray[np.float64]:
        """Compute the mean of what was gathered.

        Returns:
            The mean, (n,); empty where no window was run.
        """
        if self._sum is None:
            return np.zeros(0)
        return np.asarray((self._sum / self._windows).cpu().numpy(), dtype=np.float64)


def pooled_stage(features: Features) -> Tensor:
    """Pool an encoder's features.

    Args:
        features: of a batch.

    Returns:
        The means of a deep stage's channels, float32 (B, n).
    """
    stage = features.stages[max(_POOLED_STAGE, -len(features.stages))]
    return stage.flatten(2).float().mean(dim=2)


def _places(labels: Tensor, axis: int, start: int) -> Tensor:
    """The centre of every voxel along an axis, float32, of the labels' shape."""
    size = labels.shape[axis]
    shape = [size if other == axis else 1 for other in range(3)]
    return (torch.arange(size, device=labels.device) + (start + 0.5)).view(shape).expand(labels.shape)


def _exclusive(shares: Tensor) -> Tensor:
    """The probabilities of the labels that overlapping regions write: a later region lies over an earlier one."""
    free = torch.ones_like(shares[0])
    rows = []
    for share in shares.flip(0):
        rows.append(share * free)
        free = free * (1 - share)
    return torch.stack(rows[::-1])


def _extent(mask: Tensor) -> slice:
    """From one before the first True to one after the last, so that a border has both its sides."""
    places = torch.nonzero(mask).flatten()
    return slice(max(0, int(places[0]) - 1), int(places[-1]) + 2)
