"""Which Hounsfield units the grey levels of a scaled CT stand for, told by its histogram.

A CT is also handed on as numbers from 0 to 1, as 8-bit or 16-bit pictures or times ten: linear in HU, with another zero
and unit. Air, fat and soft tissue are three peaks at known places, so the one scale that puts them there is found by
comparing histograms. That works where the scale reaches down to air; of a picture in a narrow window the peaks that are
left fit several windows, and nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from meduniseg_core.images.modality_check import sample

_BINS = 64
_EDGE = 0.004  # of the range: what lies there may have been clipped
_LEAST = 2000  # values between the ends that a histogram needs
_CLEARLY = 0.25  # log-likelihood per voxel: scaled CT have 0.37 to 1.65, pictures in narrow windows at most 0.03
_NARROW: tuple[tuple[float, float], ...] = (
    (-160.0, 240.0),
    (-150.0, 250.0),
    (-125.0, 225.0),
    (-75.0, 175.0),
    (0.0, 80.0),
    (-450.0, 1050.0),
    (-500.0, 1300.0),
    (-1350.0, 150.0),
)
_FINEST = 4.0  # HU, of the reference distribution

# mean and deviation (HU) of air, fat, soft tissue, and organs with contrast, and what lies evenly between two values
_PEAKS = ((0.5, -1000.0, 22.0), (0.36, -100.0, 22.0), (0.33, 45.0, 28.0), (0.14, 110.0, 35.0))
_EVEN = ((0.05, -950.0, -130.0), (0.04, -130.0, 20.0), (0.06, 120.0, 600.0), (0.02, -1000.0, -500.0))


@dataclass(frozen=True)
class HounsfieldScale:
    """How values become HU: ``(value - zero) * step``; they reach from ``low`` to ``high`` HU."""

    zero: float
    step: float
    low: float
    high: float

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Convert values to HU.

        Args:
            array: of any shape.

        Returns:
            HU in float32.
        """
        return (array.astype(np.float32) - np.float32(self.zero)) * np.float32(self.step)


def hounsfield_scale(channel: np.ndarray, window: tuple[float, float]) -> HounsfieldScale | None:
    """Find the scale of a CT that is not in HU.

    Args:
        channel: (D, H, W), of any scale.
        window: HU that would be its darkest and brightest if it were a picture as the task expects it.

    Returns:
        The scale, right to a few tens of HU; None where it does not look like a CT whose scale reaches down to air.
    """
    values = sample(channel).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return None
    share = (values - low) / (high - low)
    share = share[(share > _EDGE) & (share < 1 - _EDGE)]
    if share.size < _LEAST:
        return None
    found = np.histogram(share, _BINS, (0, 1))[0] / share.size
    ranges, wide = _wide()
    fits = wide @ found
    best = int(fits.argmax())
    others = max(float(_expected(*one) @ found) for one in (*_NARROW, window))
    if fits[best] - others <= _CLEARLY:
        return None
    darkest, brightest = ranges[best]
    step = (brightest - darkest) / (high - low)
    return HounsfieldScale(low - darkest / step, step, darkest, brightest)


@lru_cache(maxsize=1)
def _wide() -> tuple[list[tuple[float, float]], np.ndarray]:
    """Ranges that reach down to air, and the logarithms of their histograms (ranges, bins)."""
    lows, widths = np.arange(-1400.0, -999.0, 15.0), np.geomspace(1150.0, 5200.0, 48)
    ranges = [(float(low), float(low + width)) for low in lows for width in widths if low + width >= 250]
    return ranges, np.stack([_expected(*one) for one in ranges])


@lru_cache(maxsize=4096)
def _expected(low: float, high: float) -> np.ndarray:
    """The logarithm of the histogram, without its ends, of a CT whose values run from ``low`` to ``high`` HU."""
    units, cumulative = _reference()
    edges = np.linspace(0, 1, _BINS + 1).clip(_EDGE, 1 - _EDGE) * (high - low) + low
    shares = np.diff(np.interp(edges, units, cumulative)) + 1e-6
    return np.asarray(np.log(shares / shares.sum()))


@lru_cache(maxsize=1)
def _reference() -> tuple[np.ndarray, np.ndarray]:
    """HU, and the share of voxels of a CT that lie below."""
    units = np.arange(-1500.0, 4000.0, _FINEST)
    density = np.zeros_like(units)
    for weight, mean, deviation in _PEAKS:
        density += weight * np.exp(-0.5 * ((units - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    for weight, first, last in _EVEN:
        density += weight * ((units >= first) & (units < last)) / (last - first)
    cumulative = np.cumsum(density)
    return units, cumulative / cumulative[-1]
