"""Features of an image for a voxel classifier: parts on their own grids, resampled to the image's grid when needed.

A linear score commutes with linear interpolation. So a network's features stay on its (often coarser) grid, and only
the scores of the classes are resampled to the image's voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from meduniseg_core.images import Reorientation
from meduniseg_core.images.boxes import Box, Slices
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.preprocessing.resample import separable

_SAMPLE = 50_000  # voxels from which a channel's mean and spread are computed


@dataclass(frozen=True, eq=False)
class FeaturePart:
    """Some channels of features.

    ``values`` (F, d, h, w) float16 lie on a grid of their own, whose axes run like the image's. ``axes`` has, for each
    axis of the image, the interpolation matrix float32 (voxels of the image, voxels of that grid); None if the grid is
    the image's.
    """

    name: str
    values: np.ndarray
    axes: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @classmethod
    def of_canonical(
        cls, name: str, values: np.ndarray, matrices: Sequence[np.ndarray], box: Box, shape: Shape3, turn: Reorientation
    ) -> FeaturePart:
        """Bring features on a network's grid to the order of the image's axes.

        Args:
            name: the name of the part, such as the task's.
            values: float16 (F, d, h, w) along canonical axes.
            matrices: for each canonical axis (voxels of the box, voxels of the network's grid).
            box: the part of the canonical grid that was prepared; its border is repeated beyond it.
            shape: of the canonical grid.
            turn: from the image's axes to the canonical ones.

        Returns:
            The features.
        """
        whole = []
        for matrix, (low, high), size in zip(matrices, box, shape, strict=True):
            rows = np.clip(np.arange(size) - low, 0, high - low - 1)
            whole.append(np.ascontiguousarray(matrix[rows], dtype=np.float32))
        axes: list[np.ndarray] = [np.empty(0)] * 3
        for matrix, axis, flip in zip(whole, turn.axes, turn.flips, strict=True):
            axes[axis] = np.ascontiguousarray(matrix[::-1, ::-1]) if flip else matrix
        return cls(name, np.ascontiguousarray(turn.inverse(values)), (axes[0], axes[1], axes[2]))

    @property
    def channels(self) -> int:
        """The number of features F."""
        return int(self.values.shape[0])

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the image, float32 (F,)."""
        flat = self.values.reshape(self.channels, -1)
        step = max(1, flat.shape[1] // _SAMPLE)
        some = flat[:, ::step].astype(np.float32)
        return some.mean(axis=1), np.maximum(some.std(axis=1), 1e-3)

    def at(self, where: tuple[np.ndarray, ...]) -> np.ndarray:
        """Look the features up at voxels of the image.

        Args:
            where: three index arrays (n,).

        Returns:
            float32 (n, F).
        """
        if self.axes is None:
            return np.asarray(self.values[:, where[0], where[1], where[2]].T, dtype=np.float32)
        rows = [_taps(matrix, index) for matrix, index in zip(self.axes, where, strict=True)]
        total = np.zeros((len(where[0]), self.channels), np.float32)
        for d, by_d in rows[0]:
            for h, by_h in rows[1]:
                for w, by_w in rows[2]:
                    weight = by_d * by_h * by_w
                    if weight.any():
                        total += weight[:, None] * self.values[:, d, h, w].T.astype(np.float32)
        return total

    def scores(self, weights: np.ndarray, box: Slices) -> np.ndarray:
        """Compute weighted sums of the features in a box of the image.

        Args:
            weights: float32 (K, F).
            box: slices of the image's grid (D, H, W).

        Returns:
            float32 (K, d, h, w), of the box's shape.
        """
        if self.axes is None:
            return _weighted(weights, self.values[(slice(None), *box)])
        matrices, sources = [], []
        for matrix, span in zip(self.axes, box, strict=True):
            rows = matrix[span]
            used = np.flatnonzero(rows.any(axis=0))
            source = slice(int(used[0]), int(used[-1]) + 1)
            sources.append(source)
            matrices.append(torch.from_numpy(np.ascontiguousarray(rows[:, source])))
        coarse = _weighted(weights, self.values[(slice(None), *sources)])
        return separable(torch.from_numpy(coarse), matrices).numpy()


def bounded_shape(shape: Sequence[int], spacing: Vector3, most: int) -> Shape3:
    """Find a grid of the same extent with a bounded number of voxels; the finest axes become coarser first.

    Args:
        shape: of the image, (D, H, W).
        spacing: of the image, in the same order.
        most: how many voxels it may have.

    Returns:
        Its shape; an axis keeps at least 8 voxels, or all if it has fewer.
    """
    size, steps = list(shape), list(spacing)
    while size[0] * size[1] * size[2] > most:
        free = [axis for axis in range(3) if size[axis] > 8]
        if not free:
            break
        least = min(steps[axis] for axis in free)
        for axis in free:
            if steps[axis] <= 1.5 * least:
                size[axis] = max(8, int(size[axis] / 1.1))
                steps[axis] = spacing[axis] * shape[axis] / size[axis]
    return size[0], size[1], size[2]


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weighted sums, plane by plane, so that few float16 values are widened at a time."""
    found = np.empty((weights.shape[0], *values.shape[1:]), np.float32)
    for depth in range(values.shape[1]):
        plane = values[:, depth].astype(np.float32).reshape(values.shape[0], -1)
        found[:, depth] = (weights @ plane).reshape(weights.shape[0], *values.shape[2:])
    return found


def _taps(matrix: np.ndarray, index: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The voxels of the other grid that each voxel of the image is interpolated from, and their weights."""
    rows = matrix[index]
    count = int((rows != 0).sum(axis=1).max(initial=1))
    order = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, :count]
    return [(order[:, tap], np.take_along_axis(rows, order[:, tap : tap + 1], axis=1)[:, 0]) for tap in range(count)]
