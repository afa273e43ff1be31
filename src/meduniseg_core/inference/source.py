"""A preprocessed image as the pass sees it: one array, or the slices of a volume for a 2D task, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.events import EventSink, ignore
from meduniseg_core.images import Image, canonical_orientation
from meduniseg_core.images.boxes import Box, whole_box
from meduniseg_core.images.geometry import Geometry, Shape3
from meduniseg_core.inference.export import LabelSink, StackSink, Target, turn_span
from meduniseg_core.inference.sliding_window import Sink
from meduniseg_core.inference.windows import WindowGrid
from meduniseg_core.preprocessing import Preprocessed, TaskPlan, preprocess

AIR_HU = -950.0
"""Below this a CT voxel is air, not lung (parenchyma is denser, down to severe emphysema)."""

_TOLERANCE = 1e-3  # in standard deviations: what resampling may add to a constant


class BackgroundDetector:
    """Detects windows of a normalised image (C, D, H, W) that hold only background.

    Background is: in a CT channel what is at the lower clipping value or below -950 HU; in a skull-stripped channel the
    0 outside the mask; in any other channel exactly the image's smallest value, the constant that files hold where
    nothing was imaged. In a ``stack`` of slices that were normalised one by one, every slice has its own smallest
    value. A noisy background is not skipped: computing too much is better than missing anything.
    """

    def __init__(self, data: Tensor, plan: TaskPlan, stack: bool = False) -> None:
        self._masked = [kind == "zscore_nonzero" for kind in plan.normalisation]
        ceilings = []
        for channel, kind, figures in zip(data, plan.normalisation, plan.figures, strict=True):
            if kind == "ct" and figures is not None:
                floor = (max(figures.percentile_00_5, AIR_HU) - figures.mean) / figures.std
                ceilings.append(torch.full((1,), floor))
            else:
                ceilings.append(channel.amin(dim=(1, 2)) if stack else channel.amin().reshape(1))
        self._ceilings = ceilings

    def __call__(self, image: Tensor, where: tuple[slice, ...]) -> bool:
        """Whether ``image[:, *where]`` is background in every channel."""
        for channel, masked, ceiling in zip(image, self._masked, self._ceilings, strict=True):
            content = channel[where]
            if masked:
                if content.count_nonzero():
                    return False
                continue
            limit = ceiling[where[0]] if ceiling.numel() > 1 else ceiling
            if bool((content.amax(dim=(1, 2)) > limit + _TOLERANCE).any()):
                return False
        return True


SLICES_AT_A_TIME = 32


class Collector(Protocol):
    """Receives the logits of one task, chunk by chunk, and builds the result."""

    def sink(self, chunk: Chunk) -> Sink:
        """The sink for the logits of the next chunk.

        Args:
            chunk: the chunk.

        Returns:
            The sink.
        """

    def result(self) -> tuple[Image, Image | None]:
        """The finished result.

        Returns:
            Labels, and probabilities or None, on the image's own grid.
        """


@dataclass(frozen=True)
class Chunk:
    """Part of a preprocessed image: ``data`` (C, d, h, w), float32, normalised, of which ``region`` is to be segmented.

    ``first`` is the index of its first slice. In a ``stack`` the planes are independent slices.
    """

    data: Tensor
    region: Box
    first: int = 0
    stack: bool = False
    prepared: tuple[Preprocessed, ...] = ()


class VolumeSource:
    """An image that its task takes as a whole.

    Args:
        prepared: the preprocessed image.
        box: the part to segment, in voxels of the image as it was read; None for all.
        whole_grid: let windows cover the network's whole grid, including planes at its ends that no voxel depends on.
    """

    def __init__(self, prepared: Preprocessed, box: Box | None, *, whole_grid: bool = False) -> None:
        self._trace = prepared.trace
        self._target = Target.of(prepared.trace, box)
        if whole_grid and box is None and self._target is not None:
            self._target = replace(self._target, region=whole_box(prepared.trace.grid.shape))
        self._data = torch.from_numpy(prepared.data)

    @property
    def extent(self) -> tuple[Shape3, Box] | None:
        """The shape of the network's grid and the region to segment; None if there is nothing to segment."""
        return None if self._target is None else (self._trace.grid.shape, self._target.region)

    def windows(self, grid: WindowGrid) -> int:
        """The number of windows of the whole image.

        Args:
            grid: the windows of the chunk.

        Returns:
            Their number.
        """
        return len(grid)

    def chunks(self) -> Iterator[Chunk]:
        """The image as one chunk.

        Yields:
            The chunk; nothing if there is nothing to segment.
        """
        if self._target is not None:
            yield Chunk(self._data, self._target.region)

    def collector(self, plan: TaskPlan, probabilities: bool, *, half: bool = False) -> Collector:
        """Create the collector for one task.

        Args:
            plan: the task's plan.
            probabilities: whether to keep probabilities.
            half: round what is resampled to half precision, as nnU-Net does.

        Returns:
            A collector for the one chunk.
        """
        sink = LabelSink(
            self._trace,
            plan.outputs,
            self._target,
            probabilities,
            plan.region_labels,
            half=half,
            averaging=plan.averaging,
        )
        return _VolumeCollector(sink)


class _VolumeCollector:
    def __init__(self, sink: LabelSink) -> None:
        self._sink = sink

    def sink(self, chunk: Chunk) -> Sink:
        return self._sink

    def result(self) -> tuple[Image, Image | None]:
        return self._sink.result()


class SliceSource:
    """A volume for a 2D task: its axial slices (along the canonical depth), each preprocessed as an image of its
    own."""

    def __init__(self, image: Image, plan: TaskPlan, box: Box | None, events: EventSink) -> None:
        self._image = image
        self._plan = plan
        self._canonical, self.change = canonical_orientation(image)
        shape = self._canonical.geometry.shape
        spans = whole_box(shape)
        if box is not None:
            turned = [
                turn_span(box[axis], image.geometry.shape[axis], flip)
                for axis, flip in zip(self.change.axes, self.change.flips, strict=True)
            ]
            spans = turned[0], turned[1], turned[2]
        self._depths = range(*spans[0])
        self._box: Box = (0, 1), spans[1], spans[2]
        self._say = events
        self.extent: tuple[Shape3, Box] | None = None  # slices come a few at a time: their estimate is the volume's

    def windows(self, grid: WindowGrid) -> int:
        """The number of windows of all slices.

        Args:
            grid: the windows of one chunk.

        Returns:
            Their number.
        """
        return len(grid.axes[1]) * len(grid.axes[2]) * len(self._depths)

    def chunks(self) -> Iterator[Chunk]:
        """Preprocess the slices, ``SLICES_AT_A_TIME`` at a time.

        Yields:
            Stacks of slices.
        """
        for first in range(0, len(self._depths), SLICES_AT_A_TIME):
            depths = self._depths[first : first + SLICES_AT_A_TIME]
            prepared = []
            for depth in depths:
                prepared.append(preprocess(slice_of(self._canonical, depth), self._plan, events=self._say))
                self._say = ignore  # once for all slices
            data = torch.from_numpy(np.concatenate([item.data for item in prepared], axis=1))
            target = Target.of(prepared[0].trace, self._box)
            assert target is not None  # slices are not cropped
            region = (0, len(depths)), target.region[1], target.region[2]
            yield Chunk(data, region, depths[0], stack=True, prepared=tuple(prepared))

    def collector(self, plan: TaskPlan, probabilities: bool, *, half: bool = False) -> Collector:
        """Create the collector for one task.

        Args:
            plan: the task's plan.
            probabilities: whether to keep probabilities.
            half: without effect, as no plan that rounds has slices of its own.

        Returns:
            A collector for all chunks.
        """
        return _SliceCollector(self, self._image, self._box, plan, probabilities)


class _SliceCollector:
    """Puts label slices together to the volume they were cut from."""

    def __init__(self, source: SliceSource, image: Image, box: Box, plan: TaskPlan, probabilities: bool) -> None:
        shape = source.change.forward_geometry(image.geometry).shape
        classes, self._averaging = plan.class_count, plan.averaging
        self._change, self._like, self._box = source.change, image, box
        self._classes, self._wanted = classes, probabilities
        self._labels = np.zeros((1, *shape), dtype=np.uint8 if classes <= 256 else np.uint16)
        self._probabilities = np.zeros((classes, *shape), dtype=np.float16) if probabilities else None
        if self._probabilities is not None:
            self._probabilities[0] = 1.0
        self._pending: tuple[int, StackSink] | None = None

    def sink(self, chunk: Chunk) -> Sink:
        self._collect()
        sinks = [
            LabelSink(
                item.trace,
                self._classes,
                Target.of(item.trace, self._box),
                self._wanted,
                averaging=self._averaging,
            )
            for item in chunk.prepared
        ]
        stack = StackSink(sinks)
        self._pending = chunk.first, stack
        return stack

    def result(self) -> tuple[Image, Image | None]:
        self._collect()
        labels = self._image(self._labels)
        return labels, None if self._probabilities is None else self._image(self._probabilities)

    def _collect(self) -> None:
        if self._pending is None:
            return
        first, stack = self._pending
        for depth, sink in enumerate(stack.sinks, start=first):
            labels, probabilities = sink.result()
            self._labels[:, depth] = labels.array[:, 0]
            if self._probabilities is not None and probabilities is not None:
                self._probabilities[:, depth] = probabilities.array[:, 0]
        self._pending = None

    def _image(self, canonical: np.ndarray) -> Image:
        array = np.ascontiguousarray(self._change.inverse(canonical))
        meta = {key: value for key, value in self._like.meta.items() if key not in ("colour", "dtype")}
        return replace(self._like, array=array, meta=meta)


def slice_of(volume: Image, depth: int) -> Image:
    """Cut a slice out of a volume, keeping its position in space.

    Args:
        volume: (C, D, H, W).
        depth: index of the slice.

    Returns:
        An image of depth 1.
    """
    geometry = volume.geometry
    origin = geometry.affine @ np.array([depth, 0, 0, 1.0])
    place = Geometry(
        shape=(1, geometry.shape[1], geometry.shape[2]),
        spacing=geometry.spacing,
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=geometry.direction,
    )
    return replace(volume, array=volume.array[:, depth : depth + 1], geometry=place)
