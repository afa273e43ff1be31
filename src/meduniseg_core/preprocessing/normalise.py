"""Intensities as the network wants them (nnU-Net's schemes)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meduniseg_core.preprocessing.plan import IntensityStatistics, Normalisation, TaskPlan

_EPSILON = 1e-8


def normalise(data: np.ndarray, plan: TaskPlan, mask: np.ndarray | None) -> None:
    """Normalise ``data`` (C, d, h, w) float32 in place, channel by channel, as ``plan`` says.

    ``mask`` (d, h, w): where the image is not constant background; used by ``zscore_nonzero`` only (None: everywhere).
    """
    for channel, kind, figures in zip(data, plan.normalisation, plan.figures, strict=True):
        _normalise_channel(channel, kind, figures, mask)


def _normalise_channel(
    channel: np.ndarray, kind: Normalisation, figures: IntensityStatistics | None, mask: np.ndarray | None
) -> None:
    if kind == "none":
        return
    if kind == "rgb01":
        channel /= 255.0
        return
    if kind == "rescale01":
        channel -= channel.min()
        channel /= max(float(channel.max()), _EPSILON)
        return
    if kind == "ct":
        assert figures is not None  # TaskPlan checked it
        np.clip(channel, figures.percentile_00_5, figures.percentile_99_5, out=channel)
        mean, std = figures.mean, figures.std
    else:
        inside = channel[mask] if kind == "zscore_nonzero" and mask is not None and mask.any() else channel
        # in double precision: 10^8 voxels of HU-sized values lose digits in single
        mean, std = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    channel -= mean
    channel /= max(std, _EPSILON)
    if kind == "zscore_nonzero" and mask is not None:
        channel[~mask] = 0.0


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """``mask`` (d, h, w) with its enclosed holes filled (what no path of background joins to the border)."""
    outside, count = ndimage.label(~mask)
    if count == 0:
        return mask
    reached = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            reached[np.unique(np.take(outside, end, axis=axis))] = True
    reached[0] = False
    return np.asarray(~reached[outside])
