"""How fine an image's detail is on the grid that the network sees.

A photograph has no size in mm: its longer side is scaled to a fixed number of pixels, so how much it shows decides how
large everything appears to the network. The number of pixels does not tell (the same picture comes in every size), but
the content does. An image that shows four times as much has finer detail than the training images; an enlarged cut-out
has coarser detail.
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
"""A distance of more than this many times the training images' largest one is unusual.

The largest of a sample is passed by further images of the same kind, hence a margin; a wide one hides those that show
several times as much. A warning that comes with usual images is not read when it matters, so the margin is chosen for
few of these.

Measured on eleven sets of 2D images, with a fifth of each held back: it flags 0 to 3 % of the held-back images, 10 to
100 % of 4 x 4 mosaics, and 30 to 100 % of cut-outs of a ninth of an image (but few of glands, which look alike at all
scales)."""

FEWEST = 16  # images; fewer say nothing about what is usual
_SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels of the network's grid
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def detail_features(image: Image, plan: TaskPlan) -> np.ndarray | None:
    """Measure the detail of a 2D image without a size in mm.

    Args:
        image: ``(C, 1, H, W)``.
        plan: The task's plan.

    Returns:
        float64 ``(7,)``: logarithms of the shares of the variance at five scales, of the mean gradient over the
        standard deviation, and of the spectrum's centroid. None for other images, and for one that is constant or tiny.
    """
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
    """Describe the usual detail of the training images.

    Args:
        features: What `detail_features` measured, per image.

    Returns:
        Mean, precision and largest distance; None where there are fewer than 16 images.
    """
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
    """Measure how far an image's detail lies from that of the training images.

    Args:
        features: What `detail_features` measured.
        usual: What `detail_of` describes.

    Returns:
        The distance; 1 is that of the furthest training image.
    """
    return _length(features - np.array(usual.mean), np.array(usual.precision)) / usual.largest


def is_finer(features: np.ndarray, usual: Detail) -> bool:
    """Say whether an image's detail is finer than usual (it shows more), and not coarser.

    Args:
        features: What `detail_features` measured.
        usual: What `detail_of` describes.

    Returns:
        True where it is finer.
    """
    return bool(features[-1] > usual.mean[-1])


def _length(difference: np.ndarray, precision: np.ndarray) -> float:
    return float(np.sqrt(max(0.0, difference @ precision @ difference)))


def _centroid(flat: np.ndarray) -> float:
    """Mean frequency of the spectrum, cycles a pixel."""
    window = np.outer(np.hanning(flat.shape[0]), np.hanning(flat.shape[1]))
    power = np.abs(np.fft.rfft2(flat * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(flat.shape[0])[:, None], np.fft.rfftfreq(flat.shape[1])[None])
    return float((power * frequency).sum() / max(power[frequency > 0].sum(), 1e-12))
