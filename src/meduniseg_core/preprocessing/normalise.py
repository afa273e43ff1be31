"""Normalisation of intensities, by nnU-Net's schemes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meduniseg_core.preprocessing.plan import IntensityStatistics, Normalisation, TaskPlan

_EPSILON = 1e-8
_ROUNDING = 1e-6  # of the largest value


def normalise(data: np.ndarray, plan: TaskPlan, mask: np.ndarray | None) -> None:
    """Normalise intensities in place, channel by channel.

    Args:
        data: float32 ``(C, d, h, w)``.
        plan: The task's plan, which names each channel's normalisation.
        mask: bool ``(d, h, w)``, True where the image is not constant background; only ``zscore_nonzero`` uses it.
            None: everywhere.
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
        peak = _peak(channel)
        channel -= channel.min()
        channel /= _divisor(float(channel.max()), peak)
        return
    if kind == "ct":
        assert figures is not None  # TaskPlan checked it
        np.clip(channel, figures.percentile_00_5, figures.percentile_99_5, out=channel)
        mean, std = figures.mean, figures.std
    else:
        inside = channel[mask] if kind == "zscore_nonzero" and mask is not None and mask.any() else channel
        # in double precision: 10^8 voxels of HU-sized values lose digits in single
        mean, std = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
        std = _divisor(std, _peak(inside))
    channel -= mean
    channel /= max(std, _EPSILON) if kind == "ct" else std
    if kind == "zscore_nonzero" and mask is not None:
        channel[~mask] = 0.0


def _peak(values: np.ndarray) -> float:
    return max(abs(float(values.min())), abs(float(values.max())))


def _divisor(spread: float, peak: float) -> float:
    """nnU-Net's, which is at least ``_EPSILON``, but for images in units so small (diffusion in m²/s) that all they
    show would vanish: what is more than the rounding of single precision counts."""
    return spread if spread > _ROUNDING * peak else max(spread, _EPSILON)


def fill_mask_holes(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of a mask: background that no path joins to the border.

    Args:
        mask: bool ``(d, h, w)``.

    Returns:
        The mask without holes.
    """
    outside, count = ndimage.label(~mask)
    if count == 0:
        return mask
    reached = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            reached[np.unique(np.take(outside, end, axis=axis))] = True
    reached[0] = False
    return np.asarray(~reached[outside])
