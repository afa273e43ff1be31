"""Features of the image itself: the intensity of every voxel and its changes at a few scales."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from meduniseg_core.images import Image
from meduniseg_core.images.geometry import Vector3
from meduniseg_core.interactive.features import FeaturePart, bounded_shape
from meduniseg_core.preprocessing.resample import axis_matrix, separable

SCALES = (1.0, 2.0, 4.0)
"""Standard deviations of the Gaussians, in the image's smallest voxel sides."""

_NAME = "image"
_BUDGET = 768 << 20  # bytes of float16; images of more channels get fewer scales
_MOST = 8_000_000  # voxels: larger images are filtered on a coarser grid, or the user would wait too long
_LIMIT = 1000.0  # standardised values stay within float16's exact range


def image_features(image: Image) -> FeaturePart:
    """Compute intensities, Gaussian means, gradient magnitudes and Laplacians of Gaussians.

    Each channel is standardised first (0.5 and 99.5 percentiles clipped), so that features of one image mean the same
    in the next. Gradients and Laplacians are those of the channels' mean.

    Args:
        image: (C, D, H, W).

    Returns:
        float16 features on the image's grid, or on a coarser one if it has more than 8 million voxels. Features beyond
        a budget of 768 MiB are left out, coarse scales first.
    """
    whole, fine = image.geometry.shape, image.geometry.spacing
    shape = bounded_shape(whole, fine, _MOST)
    steps = tuple(step * size / small for step, size, small in zip(fine, whole, shape, strict=True))
    spacing: Vector3 = (steps[0], steps[1], steps[2])
    voxels = shape[0] * shape[1] * shape[2]
    room = max(image.channels, _BUDGET // (2 * voxels))
    channels = [_standardised(channel) for channel in image.array]
    if shape != whole:
        channels = [_resampled(channel, shape) for channel in channels]
    grey = channels[0] if len(channels) == 1 else np.mean(channels, axis=0)
    finest = min(step for step, size in zip(spacing, shape, strict=True) if size > 1 or voxels == 1)
    found = [_half(channel) for channel in channels]
    for scale in SCALES:
        if len(found) + len(channels) + 2 > room:
            break
        sigma = tuple(0.0 if size == 1 else scale * finest / step for size, step in zip(shape, spacing, strict=True))
        found += [_half(values) for values in _at_scale(channels, grey, sigma, scale)]
    if shape == whole:
        return FeaturePart(_NAME, np.stack(found))
    axes = [axis_matrix(small, size, "linear").numpy() for small, size in zip(shape, whole, strict=True)]
    return FeaturePart(_NAME, np.stack(found), (axes[0], axes[1], axes[2]))


def _resampled(channel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    matrices = [
        axis_matrix(before, after, "linear", low_pass=True) for before, after in zip(channel.shape, shape, strict=True)
    ]
    found: np.ndarray = separable(torch.from_numpy(np.ascontiguousarray(channel[None])), matrices).numpy()[0]
    return found


def _half(values: np.ndarray) -> np.ndarray:
    limited: np.ndarray = np.clip(values, -_LIMIT, _LIMIT)
    return limited.astype(np.float16)


def _at_scale(channels: list[np.ndarray], grey: np.ndarray, sigma: tuple[float, ...], scale: float) -> list[np.ndarray]:
    along = [axis for axis, width in enumerate(sigma) if width > 0]
    slope = np.zeros_like(grey)
    for axis in along:
        order = [1 if other == axis else 0 for other in range(3)]
        slope += ndimage.gaussian_filter(grey, sigma, order=order) ** 2
    bend = np.zeros_like(grey)
    for axis in along:
        order = [2 if other == axis else 0 for other in range(3)]
        bend += ndimage.gaussian_filter(grey, sigma, order=order)
    smooth = [ndimage.gaussian_filter(channel, sigma) for channel in channels]
    return [*smooth, scale * np.sqrt(slope), scale**2 * bend]


def _standardised(channel: np.ndarray) -> np.ndarray:
    values = channel.astype(np.float32)
    step = max(1, values.size // 200_000)
    low, high = np.percentile(values.ravel()[::step], (0.5, 99.5))
    np.clip(values, low, high, out=values)
    values -= values.mean()
    values /= max(float(values.std()), 1e-6)
    return values
