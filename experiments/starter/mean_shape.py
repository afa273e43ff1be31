"""The trivial predictor every network must beat by far: the training labels' mean, whatever the image shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from meduniseg_core.evaluation import dice
from meduniseg_core.images import Image, canonical_orientation, read_labels
from meduniseg_core.preprocessing import RawDataset

SIDE = {2: 128, 3: 40}
THRESHOLDS = np.linspace(0.05, 0.9, 18)


@dataclass(frozen=True)
class MeanShape:
    """Frequencies (classes, D, H, W) of the classes on a common grid, and the threshold that fits training best."""

    frequencies: np.ndarray
    threshold: float

    @classmethod
    def of(cls, dataset: RawDataset) -> MeanShape:
        """Average of the training labels, each stretched to one grid in canonical orientation."""
        labels = [canonical_orientation(read_labels(case.label))[0] for case in dataset.cases("Tr") if case.label]
        side = SIDE[dataset.dimension]
        depth = 1 if dataset.dimension == 2 else side
        count = len(dataset.classes)
        grids = [_stretched(_one_hot(label.array[0], count), (depth, side, side)) for label in labels]
        frequencies = np.mean(grids, axis=0)
        hard = [grid.argmax(0) + 1 for grid in grids]
        truths = [np.where(grid.max(0) >= 0.5, best, 0) for grid, best in zip(grids, hard, strict=True)]
        scores = [
            np.mean([dice(_labels(frequencies, t), truth, k + 1) for truth in truths for k in range(count)])
            for t in THRESHOLDS
        ]
        return cls(frequencies, float(THRESHOLDS[int(np.argmax(scores))]))

    def predict(self, reference: Image) -> np.ndarray:
        """The mean shape stretched to the grid of ``reference``: labels (D, H, W)."""
        canonical, turn = canonical_orientation(reference)
        labels = _labels(_stretched(self.frequencies, canonical.geometry.shape), self.threshold)
        result: np.ndarray = turn.inverse(labels[None])[0]
        return result


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return np.stack([labels == k + 1 for k in range(count)]).astype(np.float32)


def _stretched(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.as_tensor(np.ascontiguousarray(array))[None]
    result: np.ndarray = F.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)[0].numpy()
    return result


def _labels(frequencies: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(frequencies.max(0) >= threshold, frequencies.argmax(0) + 1, 0).astype(np.uint8)
