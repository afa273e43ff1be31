"""An image layer's intensities, to which painting can be limited, and the range to start with. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image as ImageLayer

from meduniseg_core.images.modality_check import looks_like_ct
from napari_meduniseg._layers import METADATA_KEY, Origin

_SAMPLED = 1_000_000  # voxels that are looked at: the percentiles of a volume need no more
_BINS = 128
_USUAL = (5.0, 95.0)  # percentiles of what is not background

_brightness: WeakKeyDictionary[ImageLayer, tuple[object, np.ndarray]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Range:
    """The range to start with, ``low`` to ``high``.

    The image's intensities run from ``lowest`` to ``highest``; ``decimals`` are enough to show a hundredth of that.
    ``counts`` are those of as many equal parts of that span (a histogram of a sample of the voxels).
    """

    low: float
    high: float
    lowest: float
    highest: float
    decimals: int
    counts: tuple[int, ...] = ()

    @property
    def step(self) -> float:
        """About a hundredth of the image's range."""
        return float(max(10.0**-self.decimals, (self.highest - self.lowest) / 100))


def intensities(layer: ImageLayer) -> np.ndarray:
    """The layer's intensities, one number per voxel, perhaps lazy.

    For a colour image, the mean of red, green and blue.
    """
    if not layer.rgb:
        return layer.data  # type: ignore[no-any-return]
    known = _brightness.get(layer)
    if known is None or known[0] is not layer.data:
        known = _brightness[layer] = (layer.data, np.asarray(layer.data)[..., :3].mean(axis=-1))
    return known[1]


def usual_range(layer: ImageLayer) -> Callable[[], Range]:
    """Prepare to find the range to start with. Returns a function for a worker's thread: it reads voxels.

    For a CT it is the window that is shown (percentiles of a body in air say little), for other images what most voxels
    have.
    """
    data, rgb = layer.data, layer.rgb
    if layer.multiscale:
        data = data[-1]
    record = layer.metadata.get(METADATA_KEY)
    ct = isinstance(record, Origin) and looks_like_ct(record.image)
    window = tuple(float(value) for value in layer.contrast_limits) if ct else None

    def find() -> Range:
        size = int(np.prod(data.shape[: data.ndim - rgb]))
        stride = max(1, ceil((size / _SAMPLED) ** (1 / (data.ndim - rgb))))
        voxels = np.asarray(data[(slice(None, None, stride),) * (data.ndim - rgb)])
        whole = voxels.dtype.kind in "iub" and not rgb
        values = (voxels[..., :3].mean(axis=-1) if rgb else voxels).astype(np.float64).ravel()
        values = values[np.isfinite(values)]
        if values.size == 0:
            return Range(0.0, 1.0, 0.0, 1.0, 2)
        lowest, highest = float(values.min()), float(values.max())
        inside = values[values > lowest]
        low, high = window or np.percentile(inside if inside.size else values, _USUAL)
        spread = highest - lowest
        decimals = 0 if whole or spread <= 0 else min(6, max(0, 2 - floor(log10(spread))))
        bins = min(_BINS, int(spread) + 1) if whole else _BINS
        counts = tuple(int(count) for count in np.histogram(values, bins, (lowest, highest))[0])
        return Range(round(float(low), decimals), round(float(high), decimals), lowest, highest, decimals, counts)

    return find
