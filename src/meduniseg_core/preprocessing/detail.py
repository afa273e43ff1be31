"""How fine an image's detail is where the network looks at it.

A photograph has no mm: its longer side is scaled to a fixed number of pixels, so how much it shows decides how large
everything is for the network. Pixel counts do not tell (the same picture comes in every size), its own content does: an
image that shows four times as much has finer detail than the training images, a cut-out that was enlarged coarser.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from meduniseg_core.images import Image
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.resample import photograph_rules, resample
from meduniseg_core.preprocessing.statistics import Detail
from meduniseg_core.preprocessing.working_size import target_shape

TOLERANCE = 1.3
"""Further away than this many times the training images' largest distance is unusual. Over eleven sets of 2D images, a
fifth of each held back: 0 to 3 % of the held-back images; of 4 x 4 mosaics 10 to 100 %, of a ninth of an image 30 to
100 %, but of glands, which look alike at all scales, few."""

FEWEST = 16  # images; fewer say nothing about what is usual
_SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels of the network's grid
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def detail_features(image: Image, plan: TaskPlan) -> np.ndarray | None:
    """float64 (7,): the logarithms of the shares of the variance at five scales, of the mean gradient over the standard
    deviation and of the spectrum's centroid; None for what is no 2D image without mm, or has nothing to see."""
    if plan.longest_side is None or not image.is_2d:
        return None
    array = image.array.astype(np.float32)
    grey = np.tensordot(_LUMINANCE, array, axes=1)[None] if image.channels == 3 else array[:1]
    whole = ((0, 1), (0, image.geometry.shape[1]), (0, image.geometry.shape[2]))
    flat = resample(grey, target_shape(image.geometry, whole, plan), photograph_rules())[0, 0].astype(np.float64)
    spread = float(flat.std())
    if min(flat.shape) < 2 * _SCALES[-1] or spread < 1e-6:
        return None
    flat = (flat - flat.mean()) / spread
    across, down = np.gradient(flat)
    bands, finer = [], flat
    for scale in _SCALES:
        smooth = ndimage.gaussian_filter(flat, scale)
        bands.append(float((finer - smooth).var()))
        finer = smooth
    bands.append(float(finer.var()))
    values = [*bands, float(np.hypot(across, down).mean()), _centroid(flat)]
    return np.log(np.maximum(values, 1e-6))


def detail_of(features: Sequence[np.ndarray]) -> Detail | None:
    """The training images' own spread; None where they are too few."""
    if len(features) < FEWEST:
        return None
    rows = np.stack(features)
    mean, spread = np.median(rows, axis=0), np.cov(rows.T)
    # features that hardly vary here may vary elsewhere
    inverse = np.linalg.inv(spread + 0.05 * np.diag(np.diag(spread)) + 0.01 * np.eye(len(spread)))
    largest = max(_length(row - mean, inverse) for row in rows)
    precision = tuple(tuple(round(float(value), 4) for value in row) for row in inverse)
    return Detail(mean=tuple(round(float(value), 4) for value in mean), precision=precision, largest=max(largest, 1e-3))


def detail_distance(features: np.ndarray, usual: Detail) -> float:
    """How far an image lies from the training images; 1: as far as the furthest of them."""
    return _length(features - np.array(usual.mean), np.array(usual.precision)) / usual.largest


def is_finer(features: np.ndarray, usual: Detail) -> bool:
    """Whether the detail is finer than usual (more is shown), else coarser."""
    return bool(features[-1] > usual.mean[-1])


def _length(difference: np.ndarray, precision: np.ndarray) -> float:
    return float(np.sqrt(max(0.0, difference @ precision @ difference)))


def _centroid(flat: np.ndarray) -> float:
    """Mean frequency of the spectrum, cycles a pixel."""
    window = np.outer(np.hanning(flat.shape[0]), np.hanning(flat.shape[1]))
    power = np.abs(np.fft.rfft2(flat * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(flat.shape[0])[:, None], np.fft.rfftfreq(flat.shape[1])[None])
    return float((power * frequency).sum() / max(power[frequency > 0].sum(), 1e-12))
