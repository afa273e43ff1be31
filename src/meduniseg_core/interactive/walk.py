"""How far strokes reach: a random walk from each voxel meets one class's strokes first and avoids edges.

The random walker is L. Grady's (Random walks for image segmentation, PAMI 2006), with scikit-image's weights. It runs
on a grid of bounded size; edges are those of the image and of the main directions of the network's features. Strokes
do not change them: unlike scikit-image's function, which builds the graph with every call, it is built once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg, splu

from meduniseg_core.images.boxes import Slices
from meduniseg_core.images.geometry import Vector3
from meduniseg_core.interactive.features import FeaturePart, bounded_shape
from meduniseg_core.preprocessing.resample import axis_matrix, separable

_BETA = 130.0  # scikit-image's own: how much an edge hinders
_NO_EDGE_STOPS = 1e-10  # scikit-image's own: the least weight between neighbours
_TOLERANCE = 1e-3  # of the residual, relative
_MAIN = 3  # directions of each network part
_MOST_FLAT, _MOST_DEEP = 160 * 160, 120_000  # voxels of the grid that is walked on


@dataclass(frozen=True, eq=False)
class WalkGrid:
    """A box of the image on a grid of bounded size: ``data`` (d, h, w, channels), standardised, and its spacing."""

    box: Slices
    data: np.ndarray
    spacing: Vector3

    @classmethod
    def of(cls, parts: Sequence[FeaturePart], channels: int, spacing: Vector3, box: Slices) -> WalkGrid:
        """Gather the values in which edges are found.

        Args:
            parts: features of the image; the first are its own, the others a network's.
            channels: how many of the first part's features are the image's channels.
            spacing: of the image, (d, h, w).
            box: the part of the image, as slices with start and stop.

        Returns:
            The grid.
        """
        shape = [part.stop - part.start for part in box]
        size = bounded_shape(shape, spacing, _MOST_FLAT if 1 in shape else _MOST_DEEP)
        layers = []
        for number, part in enumerate(parts):
            directions = np.eye(channels, part.channels, dtype=np.float32) if number == 0 else _main_directions(part)
            values = part.scores(directions, box)
            layers.append(_resized(values, size))
        data = np.concatenate(layers).astype(np.float64)
        data -= data.mean(axis=(1, 2, 3), keepdims=True)
        data[:channels] /= np.maximum(data[:channels].std(axis=(1, 2, 3), keepdims=True), 1e-6)
        if len(data) > channels:  # directions keep their relation, the first has the image's weight
            data[channels:] /= max(float(data[channels:].std(axis=(1, 2, 3)).max()), 1e-6)
        steps = [space * length / count for space, length, count in zip(spacing, shape, size, strict=True)]
        least = min(steps)
        return cls(box, np.moveaxis(data, 0, -1), (steps[0] / least, steps[1] / least, steps[2] / least))

    def reach(self, seeds: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """Compute for each voxel the probability that a walk from it meets each class's strokes first.

        Args:
            seeds: labels of the box's voxels, int (d, h, w); -1 where there is no stroke.
            classes: the labels, in the order of the result.

        Returns:
            float32 (classes, d, h, w) of the box's shape; uniform if there are strokes of fewer than two classes.
        """
        depth, height, width, _ = self.data.shape
        sizes: tuple[int, ...] = (depth, height, width)
        coarse = np.zeros(sizes, np.int32)
        for number, label in enumerate(classes, start=1):
            places = np.nonzero(seeds == label)
            small = tuple(index * to // size for index, to, size in zip(places, sizes, seeds.shape, strict=True))
            coarse[small] = number
        present = [number for number in range(1, len(classes) + 1) if (coarse == number).any()]
        found = np.full((len(classes), *seeds.shape), 1 / len(classes), np.float32)
        if len(present) < 2 or (coarse > 0).all():
            return found
        met = self._met_first(coarse, present)
        found[:] = 0
        for number, chance in zip(present, met, strict=True):
            found[number - 1] = np.clip(_resized(chance[None], seeds.shape)[0], 0, 1)
        return found

    def _met_first(self, seeds: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """The probability that a walk from each voxel of the grid meets seeds of each number first."""
        drawn, graph = seeds.ravel(), self._graph
        free = np.flatnonzero(drawn == 0)
        inner, rows = graph[free][:, free], graph[free]
        met = np.stack([drawn == number for number in numbers]).astype(np.float64)
        pulls = [-(rows @ own) for own in met]
        if 1 in self.data.shape[:3]:  # a plane: factors are small, and exact
            factors = splu(inner.tocsc())
            solved = [factors.solve(pull) for pull in pulls]
        else:
            scaled = sparse.diags_array(1 / inner.diagonal())
            solved = [cg(inner, pull, rtol=_TOLERANCE, M=scaled)[0] for pull in pulls[1:]]
            solved = [1 - np.sum(solved, axis=0), *solved]
        met[:, free] = np.clip(solved, 0, 1)
        found: np.ndarray = met.reshape(len(numbers), *seeds.shape).astype(np.float32)
        return found

    @cached_property
    def _graph(self) -> sparse.csr_array:
        """The Laplacian of the grid's graph."""
        shape = self.data.shape[:3]
        places = np.arange(shape[0] * shape[1] * shape[2]).reshape(shape)
        spread = max(float(self.data.std()), 1e-6)  # 0 where everything is the same: then there are no edges
        scale = _BETA / (10 * spread * np.sqrt(self.data.shape[-1]))
        ones, others, weights = [], [], []
        for axis, step in enumerate(self.spacing):
            lower, upper = [slice(None)] * 3, [slice(None)] * 3
            lower[axis], upper[axis] = slice(None, -1), slice(1, None)
            change = ((np.diff(self.data, axis=axis) / step) ** 2).sum(axis=-1)
            ones.append(places[tuple(lower)].ravel())
            others.append(places[tuple(upper)].ravel())
            weights.append(np.exp(-scale * change).ravel() + _NO_EDGE_STOPS)
        one, other, weight = np.concatenate(ones), np.concatenate(others), np.concatenate(weights)
        between = sparse.coo_array((weight, (one, other)), shape=(places.size, places.size)).tocsr()
        between = between + between.T
        return sparse.csr_array(sparse.diags_array(between.sum(axis=1)) - between)


def _main_directions(part: FeaturePart) -> np.ndarray:
    """The first principal directions of standardised features, as weights (directions, F)."""
    mean, spread = part.moments
    flat = part.values.reshape(part.channels, -1)
    step = max(1, flat.shape[1] // 20_000)
    some = (flat[:, ::step].T.astype(np.float32) - mean) / spread
    _, vectors = np.linalg.eigh(some.T @ some)
    found: np.ndarray = (vectors[:, ::-1][:, :_MAIN].T / spread).astype(np.float32)
    return found


def _resized(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if tuple(values.shape[1:]) == tuple(shape):
        return values
    matrices = [
        axis_matrix(before, after, "linear", low_pass=True)
        for before, after in zip(values.shape[1:], shape, strict=True)
    ]
    found: np.ndarray = separable(torch.from_numpy(np.ascontiguousarray(values)), matrices).numpy()
    return found
