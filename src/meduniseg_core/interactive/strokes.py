"""Strokes, and how to find them in a painted array."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Stroke:
    """One stroke: voxels of the image, ``where`` = three index arrays (n,), and their label (0: beside the target)."""

    where: tuple[np.ndarray, ...]
    label: int


def strokes_in(painted: np.ndarray) -> list[Stroke]:
    """Split a painted array into strokes: connected voxels with the same value.

    Args:
        painted: (D, H, W), 0 where nothing was painted, else the stroke's label + 1.

    Returns:
        The strokes, by label.
    """
    flat = np.flatnonzero(painted)
    if not flat.size:
        return []
    where, values = np.unravel_index(flat, painted.shape), painted.ravel()[flat]
    ones, others = [], []
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):  # each pair of neighbours once
            continue
        moved = [index + by for index, by in zip(where, step, strict=True)]
        inside = np.all([(i >= 0) & (i < n) for i, n in zip(moved, painted.shape, strict=True)], axis=0)
        one = np.flatnonzero(inside)
        wanted = np.ravel_multi_index(tuple(index[one] for index in moved), painted.shape)
        other = np.minimum(np.searchsorted(flat, wanted), flat.size - 1)
        same = (flat[other] == wanted) & (values[other] == values[one])
        ones.append(one[same])
        others.append(other[same])
    pairs = np.concatenate(ones), np.concatenate(others)
    graph = sparse.coo_array((np.ones(pairs[0].size, bool), pairs), shape=(flat.size, flat.size))
    count, parts = connected_components(graph, directed=False)
    found = []
    for number in range(count):
        own = parts == number
        found.append(Stroke(tuple(index[own] for index in where), int(values[own][0]) - 1))
    return sorted(found, key=lambda stroke: stroke.label)
