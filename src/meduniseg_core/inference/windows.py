"""Position, size and weights of the sliding window's windows.

Everything is per axis of (D, H, W): positions form a Cartesian grid and the Gaussian is a product of three 1D curves,
so the sum of all weights is a product, too, and needs no map of the volume's size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import Box, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.preprocessing import TaskPlan

SIGMA = 1 / 8  # of the window's size, as nnU-Net


def window_shape(shape: Shape3, patch: Shape3, stride: Shape3, *, shrink: bool = True) -> Shape3:
    """The window's size for a grid.

    A shrunk axis has the grid's size rounded up to the stride, so that a volume of depth 20 is padded to 32, not to the
    patch's 64. In plane at least two strides remain: a bottleneck of one voxel has no variance for the norms. A patch
    of depth 1 (2D) stays at depth 1.

    Args:
        shape: (D, H, W) of the grid.
        patch: the patch that the model was trained with.
        stride: the network's total stride.
        shrink: shrink the window along axes where the grid is smaller.

    Returns:
        The window's size (D, H, W).
    """
    if not shrink:
        return patch
    sizes = [
        size if size == 1 else min(size, max(math.ceil(length / step), least) * step)
        for length, size, step, least in zip(shape, patch, stride, (1, 2, 2), strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def slab_window(window: Shape3, slabs: int, stride: Shape3) -> Shape3:
    """A smaller window for less memory.

    Args:
        window: size (D, H, W) in voxels.
        slabs: divide the depth by this number, for depth 1 the height and width.
        stride: the network's total stride; the size stays a multiple of it.

    Returns:
        The smaller size; ``window`` itself if it cannot be divided.
    """
    axes = (0,) if window[0] > 1 else (1, 2)
    sizes = [
        max(stride[axis], size // slabs // stride[axis] * stride[axis]) if axis in axes else size
        for axis, size in enumerate(window)
    ]
    if all(size <= step for size, step in zip(sizes, stride, strict=True)):
        return window  # a bottleneck of one voxel has no variance to be normalised by
    return min(sizes[0], window[0]), min(sizes[1], window[1]), min(sizes[2], window[2])


def axis_positions(length: int, size: int, overlap: float, low: int = 0, high: int | None = None) -> list[int]:
    """Start indices of windows along one axis that cover the range [low, high).

    Windows are spread evenly. If the axis is shorter than the window there is one, centred, whose start is negative. If
    only the range is shorter there is one, centred on the range but inside the axis, so that the network sees what
    surrounds the range.

    Args:
        length: number of voxels along the axis.
        size: size of the windows.
        overlap: windows overlap by at least this fraction of their size.
        low: the first voxel to cover.
        high: one past the last voxel to cover; None for the end of the axis.

    Returns:
        The start indices, rising.
    """
    high = length if high is None else high
    if length <= size:
        return [-((size - length) // 2)]
    extent = high - low
    if extent <= size:
        return [min(max(low - (size - extent) // 2, 0), length - size)]
    count = math.ceil((extent - size) / (size * (1 - overlap))) + 1
    pitch = (extent - size) / (count - 1)
    return sorted({low + round(index * pitch) for index in range(count)})


def gaussian(size: int, peak: float | None = None) -> Tensor:
    """The window's weights along one axis: a Gaussian with sigma = size / 8.

    Args:
        size: size of the window.
        peak: position of the maximum in voxels; None for the centre.

    Returns:
        The weights (size,) float32.
    """
    distance = torch.arange(size, dtype=torch.float64) - ((size - 1) / 2 if peak is None else peak)
    return torch.exp(-0.5 * (distance / (size * SIGMA)) ** 2).float()


@dataclass(frozen=True)
class WindowGrid:
    """All windows over a region of a grid, in the order of their depth.

    ``peak_on_voxel`` puts the largest weight on voxel size // 2, as nnU-Net does, instead of the window's exact centre.
    """

    shape: Shape3
    window: Shape3
    region: Box
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    peak_on_voxel: bool = False

    @classmethod
    def over(
        cls,
        shape: Shape3,
        window: Shape3,
        overlap: float,
        region: Box | None = None,
        *,
        peak_on_voxel: bool = False,
    ) -> WindowGrid:
        """Windows that cover a region.

        Args:
            shape: (D, H, W) of the grid.
            window: size (D, H, W) of the windows.
            overlap: windows overlap by at least this fraction of their size.
            region: the region to cover; None for the whole grid.
            peak_on_voxel: see the class.

        Returns:
            The windows.

        Raises:
            UsageError: the overlap is not in [0, 1), or the region is empty or leaves the grid.
        """
        if not 0 <= overlap < 1:
            raise UsageError(f"The overlap of windows must be at least 0 and below 1, not {overlap}.")
        region = whole_box(shape) if region is None else region
        if any(not 0 <= low < high <= length for (low, high), length in zip(region, shape, strict=True)):
            raise UsageError(f"The box {region} is empty or leaves the grid {shape}; give voxels inside it.")
        axes = [
            tuple(axis_positions(length, size, overlap, low, high))
            for length, size, (low, high) in zip(shape, window, region, strict=True)
        ]
        return cls(shape, window, region, (axes[0], axes[1], axes[2]), peak_on_voxel)

    def __len__(self) -> int:
        return len(self.axes[0]) * len(self.axes[1]) * len(self.axes[2])

    def starts(self) -> list[Shape3]:
        """The first voxels of all windows.

        Returns:
            (d, h, w) of each, depth first; negative if the grid is smaller than the window.
        """
        return list(itertools.product(*self.axes))

    def weights(self) -> Tensor:
        """The weights of one window: a product of three Gaussians.

        Returns:
            float32, of the window's size.
        """
        d, h, w = (self._curve(size) for size in self.window)
        return d[:, None, None] * h[None, :, None] * w[None, None, :]

    def _curve(self, size: int) -> Tensor:
        return gaussian(size, size // 2 if self.peak_on_voxel else None)

    def inverse_weight_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """One over the sum of all windows' weights, per axis; the product of the three normalises every voxel.

        Returns:
            A curve for each axis of the region.
        """
        sums = []
        for starts, size, (low, high) in zip(self.axes, self.window, self.region, strict=True):
            curve = self._curve(size).double()
            total = torch.zeros(high - low, dtype=torch.float64)
            for start in starts:
                first, last = max(start, low), min(start + size, high)
                if first < last:
                    total[first - low : last - low] += curve[first - start : last - start]
            sums.append(total.reciprocal_().float())
        return sums[0], sums[1], sums[2]


def overlap_of(
    start: Sequence[int], size: Sequence[int], box: Box
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """The part of a window that lies in a box.

    Args:
        start: the window's first voxel.
        size: the window's size.
        box: the box.

    Returns:
        Its slices in the window and in the box; None if there is no overlap.
    """
    inside: list[slice] = []
    outside: list[slice] = []
    for first, length, (low, high) in zip(start, size, box, strict=True):
        begin, end = max(first, low), min(first + length, high)
        if begin >= end:
            return None
        inside.append(slice(begin - first, end - first))
        outside.append(slice(begin - low, end - low))
    return tuple(inside), tuple(outside)


def plan_windows(
    plan: TaskPlan, shape: Shape3, stride: Shape3, overlap: float, region: Box | None = None, slabs: int = 1
) -> WindowGrid:
    """Choose the windows for an image.

    A network whose plan pads small images always gets windows of the size it was trained with.

    Args:
        plan: the task's plan.
        shape: (D, H, W) of the network's grid.
        stride: the network's total stride.
        overlap: overlap of neighbouring windows, a fraction of their size.
        region: the region to cover; None for all.
        slabs: as in `ExecutionPlan`.

    Returns:
        The windows.
    """
    window = slab_window(window_shape(shape, plan.patch, stride, shrink=plan.small_images == "shrink"), slabs, stride)
    return WindowGrid.over(shape, window, overlap, region, peak_on_voxel=plan.scheme is not None)
