"""The sliding window: overlapping windows of one image, blended to logits, in little memory.

Windows run in the order of their depth. As soon as no later window touches a plane, its logits are final and go to a
sink, so the accumulator is only as deep as a window (times the number of classes), however long the volume. Several
tasks share the encoder's pass over each window.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from meduniseg_core.errors import NonFiniteOutputError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images.boxes import box_shape, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.windows import WindowGrid, overlap_of

BACKGROUND_LOGIT = 10.0
"""The background's logit where all windows were skipped (its probability there is 1); the other values are 0."""

_CPU = torch.device("cpu")
_CHUNK_ELEMENTS = 1 << 22  # logits are cast and added in pieces of about this size


class Sink(Protocol):
    """Receives the finished logits of one task."""

    def write(self, first: int, logits: Tensor) -> None:
        """Receive planes of the region. Calls come in rising order, without gaps, and cover the region.

        Args:
            first: index of the first plane.
            logits: float32 (classes, planes, h, w); valid during the call only.
        """


class WindowNetwork(Protocol):
    """The network as the sliding window calls it."""

    def __call__(self, images: Tensor, outputs: Sequence[int]) -> Iterable[Tensor]:
        """Compute the logits of some outputs for a batch of windows.

        An iterator that computes them one by one keeps only one output's logits in memory.

        Args:
            images: (B, C, D, H, W).
            outputs: positions of the wanted outputs.

        Returns:
            For each wanted output its logits (B, >= classes, D, H, W).
        """


@dataclass(frozen=True)
class Output:
    """One task's logits: the number of classes, the axes along which its images may be mirrored, and the sink.

    ``subject`` and ``remedy`` appear in the error about logits that are not finite. ``watch`` is called with the starts
    and the logits (B, classes, d, h, w) of every batch of windows that is not mirrored.
    """

    classes: int
    sink: Sink
    mirror_axes: tuple[int, ...] = ()
    subject: str = "the image"
    remedy: str = "run it again with the precision fp32"
    watch: Callable[[Sequence[Shape3], Tensor], None] | None = None


@dataclass(frozen=True)
class SlidingWindow:
    """How windows are run: everything apart from the image and the network.

    ``accumulate_on`` is the device of the blended logits. ``is_empty`` decides by the image and a window's slices (D,
    H, W) whether the window holds no body and is skipped. ``half_sums`` adds windows up in half precision, rounded as
    in nnU-Net, so that near-ties are decided as there. ``tta`` averages over all mirrorings along each output's
    ``mirror_axes``. ``activation`` turns all logits of the network (B, K, D, H, W) into what is averaged.
    """

    device: torch.device = _CPU
    accumulate_on: torch.device = _CPU
    batch: int = 1
    tta: bool = False
    half_sums: bool = False
    activation: Callable[[Tensor], Tensor] | None = None
    is_empty: Callable[[Tensor, tuple[slice, ...]], bool] | None = None

    @torch.inference_mode()
    def run(
        self,
        image: Tensor,
        grid: WindowGrid,
        network: WindowNetwork,
        outputs: Sequence[Output],
        *,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> int:
        """Run all windows; the outputs' sinks receive the region's logits.

        Args:
            image: (C, D, H, W), float32, on the CPU.
            grid: the windows.
            network: the network.
            outputs: the tasks' outputs.
            events: receives progress for each batch of windows.
            cancel: stops after the current batch of windows.

        Returns:
            The number of windows that were not skipped.

        Raises:
            CancelledError: ``cancel`` was set.
            NonFiniteOutputError: logits are NaN or infinite.
        """
        starts = [start for start in grid.starts() if not self._skips(image, start, grid.window)]
        skipped = len(grid) - len(starts)
        blender = _Blender(grid, [o.classes for o in outputs], _depth(starts, self.batch, grid), self.accumulate_on)
        blender.background = BACKGROUND_LOGIT if self.activation is None else 1.0
        if self.half_sums:
            blender.halve()
        elif skipped:
            blender.count_weights()
        flips = (
            _flips([o.mirror_axes for o in outputs], grid.window) if self.tta else [((), tuple(range(len(outputs))))]
        )
        shares = [1 / sum(position in members for _, members in flips) for position in range(len(outputs))]
        began = time.perf_counter()
        events(Progress("segment", skipped, len(grid)))
        for first in range(0, len(starts), self.batch):
            if cancel is not None:
                cancel.raise_if_cancelled()
            members = starts[first : first + self.batch]
            blender.emit(outputs, members[0][0])
            images = self._load(image, members, grid.window)
            mirrored: dict[int, Tensor] = {}
            for axes, wanted in flips:
                turned = images.flip([axis + 2 for axis in axes]) if axes else images
                for position, logits in zip(wanted, network(turned, wanted), strict=True):
                    watch = outputs[position].watch
                    if watch is not None and not axes:
                        watch(members, logits[:, : outputs[position].classes])
                    logits = self._activated(logits, outputs[position])[:, : outputs[position].classes]
                    if self.half_sums and len(flips) > 1:  # the mean first: it is rounded once
                        logits = logits.float().mul_(shares[position])
                        back = logits.flip([axis + 2 for axis in axes]) if axes else logits
                        mirrored[position] = mirrored[position].add_(back) if position in mirrored else back
                    else:
                        blender.add(position, members, logits, axes, shares[position])
                    del logits
            for position, logits in mirrored.items():
                blender.add(position, members, logits, (), 1.0)
            done = skipped + first + len(members)
            events(Progress("segment", done, len(grid), time.perf_counter() - began))
        if cancel is not None:
            cancel.raise_if_cancelled()
        blender.emit(outputs, None)
        return len(starts)

    def _activated(self, logits: Tensor, output: Output) -> Tensor:
        if self.activation is None:
            return logits
        logits = logits.float()
        if not is_finite(logits):  # a probability would hide it
            raise NonFiniteOutputError(output.subject, output.remedy)
        return self.activation(logits)

    def _skips(self, image: Tensor, start: Shape3, window: Shape3) -> bool:
        if self.is_empty is None:
            return False
        part = overlap_of(start, window, whole_box(_grid_of(image)))
        return part is not None and self.is_empty(image, part[1])

    def _load(self, image: Tensor, starts: Sequence[Shape3], window: Shape3) -> Tensor:
        """The windows as one batch on the device. Outside the image they are 0, the mean, as in training."""
        box = whole_box(_grid_of(image))
        batch = torch.zeros((len(starts), image.shape[0], *window), dtype=image.dtype)
        for sample, start in zip(batch, starts, strict=True):
            part = overlap_of(start, window, box)
            if part is not None:
                sample[(slice(None), *part[0])] = image[(slice(None), *part[1])]
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True)
        return batch.contiguous(memory_format=torch.channels_last_3d)


class _Blender:
    """The accumulators of all outputs: a band of planes that moves along the depth."""

    def __init__(self, grid: WindowGrid, classes: Sequence[int], depth: int, device: torch.device) -> None:
        self._grid = grid
        _, height, width = box_shape(grid.region)
        self._bands = [torch.zeros((count, depth, height, width), device=device) for count in classes]
        self._depth = depth
        self._first = grid.region[0][0]  # the depth of the band's first plane
        self._weights = grid.weights()
        self._weights_there = self._weights.to(device)
        self._sums: Tensor | None = None
        self.background = BACKGROUND_LOGIT
        """What the background has where every window was skipped."""
        self._inverse = [axis.to(device) for axis in grid.inverse_weight_sums()]

    def count_weights(self) -> None:
        """If windows are skipped, the sum of weights is no longer a product of curves, so it is kept per voxel."""
        self._sums = torch.zeros_like(self._bands[0][0])

    def halve(self) -> None:
        """Keep logits and weights in half precision as nnU-Net does: the largest weight is 10, and none is 0."""
        self._bands = [band.half() for band in self._bands]
        weights = (10 * self._weights / self._weights.max()).half()
        weights[weights == 0] = weights[weights > 0].min()
        self._weights_there = weights.to(self._bands[0].device)
        self._sums = torch.zeros_like(self._bands[0][0])

    def add(self, output: int, starts: Sequence[Shape3], logits: Tensor, flipped: Sequence[int], share: float) -> None:
        """Add the windows' logits (B, K, d, h, w), computed on images flipped along the axes ``flipped``."""
        if flipped:
            logits = logits.flip([axis + 2 for axis in flipped])
        region = self._grid.region
        band = (self._first, min(self._first + self._depth, region[0][1])), region[1], region[2]
        for sample, start in zip(logits, starts, strict=True):
            part = overlap_of(start, self._grid.window, band)
            if part is None:
                continue
            inside, outside = part
            target = self._bands[output][(slice(None), *outside)]
            self._add_weighted(target, sample[(slice(None), *inside)], self._weights_there[inside], share)
            if self._sums is not None and output == 0 and not flipped:
                self._sums[outside] += self._weights_there[inside]

    @staticmethod
    def _add_weighted(target: Tensor, logits: Tensor, weights: Tensor, share: float) -> None:
        """target += share * logits * weights, in pieces, so that casting needs little memory."""
        plane = max(1, logits.numel() // logits.shape[1])
        step = max(1, _CHUNK_ELEMENTS // plane) if target.device.type == "cpu" else logits.shape[1]
        for first in range(0, logits.shape[1], step):
            piece = slice(first, first + step)
            values = logits[:, piece].to(target.device, torch.float32)
            if target.dtype == torch.float32:
                target[:, piece].addcmul_(values, weights[piece], value=share)
            else:
                target[:, piece].add_(values * share * weights[piece].float())

    def emit(self, outputs: Sequence[Output], until: int | None) -> None:
        """Pass all planes before depth ``until`` (all remaining ones if None) to the sinks and move the band on."""
        low, high = self._grid.region[0]
        until = high if until is None else min(max(until, low), high)
        while self._first < until:
            count = min(until - self._first, self._depth)
            for output, band in zip(outputs, self._bands, strict=True):
                planes = band[:, :count]
                self._normalise(planes, self._first - low)
                if not is_finite(planes):
                    raise NonFiniteOutputError(output.subject, output.remedy)
                output.sink.write(self._first - low, planes.float())
            for band in self._bands:
                _move(band, count, axis=1)
            if self._sums is not None:
                _move(self._sums, count, axis=0)
            self._first += count

    def _normalise(self, planes: Tensor, first: int) -> None:
        count = planes.shape[1]
        if self._sums is None:
            depth, height, width = self._inverse
            factor = (height[:, None] * width)[None] * depth[first : first + count, None, None]
            planes.mul_(factor)
            return
        sums = self._sums[:count]
        empty = sums == 0
        planes.div_(sums + empty)
        planes[0].masked_fill_(empty, self.background)


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite.

    One sum usually decides it and needs no memory; only where it is not finite is every value looked at.

    Args:
        values: the values.

    Returns:
        False if any is NaN or infinite.
    """
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())


def _move(band: Tensor, count: int, axis: int) -> None:
    """Drop the first ``count`` planes: the others move up and zeros follow. In steps, because the parts overlap."""
    depth = band.shape[axis]
    for first in range(0, depth - count, count):
        size = min(count, depth - count - first)
        band.narrow(axis, first, size).copy_(band.narrow(axis, first + count, size))
    band.narrow(axis, max(0, depth - count), min(count, depth)).zero_()


def _depth(starts: Sequence[Shape3], batch: int, grid: WindowGrid) -> int:
    """The number of planes the accumulator needs: the widest span of depth that one batch of windows touches."""
    low, high = grid.region[0]
    spans = [
        min(starts[min(first + batch, len(starts)) - 1][0] + grid.window[0], high) - max(starts[first][0], low)
        for first in range(0, len(starts), batch)
    ]
    return max([1, *spans]) if spans else min(grid.window[0], high - low)


def passes_of(mirror_axes: Sequence[Sequence[int]], window: Shape3) -> int:
    """The number of encoder passes per window with test-time augmentation by mirroring.

    Args:
        mirror_axes: the mirror axes of each task.
        window: size (D, H, W) in voxels.

    Returns:
        The number of passes.
    """
    return len(_flips(mirror_axes, window))


def _flips(mirror_axes: Sequence[Sequence[int]], window: Shape3) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every set of axes to flip, with the outputs that allow it. An axis of one voxel has no mirror image."""
    allowed = [tuple(axis for axis in own if window[axis] > 1) for own in mirror_axes]
    axes = sorted({axis for some in allowed for axis in some})
    flips = []
    for length in range(len(axes) + 1):
        for chosen in itertools.combinations(axes, length):
            members = tuple(position for position, own in enumerate(allowed) if set(chosen) <= set(own))
            if members:
                flips.append((chosen, members))
    return flips


def _grid_of(image: Tensor) -> Shape3:
    return int(image.shape[1]), int(image.shape[2]), int(image.shape[3])
