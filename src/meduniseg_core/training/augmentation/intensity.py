"""nnU-Net's intensity augmentations, all in place on float32 (C, D, H, W)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from meduniseg_core.training.augmentation.config import AugmentationConfig, draw_factor

FloatArray = npt.NDArray[np.float32]

_EPS = 1e-7


def change_intensities(image: FloatArray, in_plane: bool, rng: np.random.Generator, config: AugmentationConfig) -> None:
    """Apply nnU-Net's operations in nnU-Net's order. Each channel draws its own strength, which jitters the colour of
    RGB.

    Args:
        image: float32 (C, D, H, W), changed in place.
        in_plane: whether the depth is too coarse to be made coarser still.
        rng: decides what is changed and how much.
        config: how often and how strongly.
    """
    if rng.random() < config.p_noise:
        image += rng.uniform(*config.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < config.p_blur:
        for channel in image:
            if rng.random() < config.p_blur_channel:
                sigma = rng.uniform(*config.blur)
                sigmas = [sigma if size > 1 else 0.0 for size in channel.shape]
                ndimage.gaussian_filter(channel, sigmas, output=channel, truncate=3.0)
    if rng.random() < config.p_brightness:
        for channel in image:
            channel *= draw_factor(config.brightness, rng)
    if rng.random() < config.p_contrast:
        for channel in image:
            low, high, mean = float(channel.min()), float(channel.max()), float(channel.mean())
            factor = draw_factor(config.contrast, rng)
            channel *= factor
            channel += mean * (1 - factor)
            np.clip(channel, low, high, out=channel)
    if rng.random() < config.p_low_resolution:
        for channel in image:
            if rng.random() < config.p_low_resolution_channel:
                channel[...] = _coarsened(channel, rng.uniform(*config.low_resolution), in_plane)
    if rng.random() < config.p_inverted_gamma:
        for channel in image:
            np.negative(channel, out=channel)
            _apply_gamma(channel, draw_factor(config.gamma, rng))
            np.negative(channel, out=channel)
    if rng.random() < config.p_gamma:
        for channel in image:
            _apply_gamma(channel, draw_factor(config.gamma, rng))


def _coarsened(channel: FloatArray, zoom: float, in_plane: bool) -> FloatArray:
    """Resample (D, H, W) to a coarser grid by nearest neighbour and back linearly; the depth only if it is not
    coarse."""
    depth, height, width = channel.shape
    small = [max(1, round(size * zoom)) for size in (height, width)]
    tensor = torch.from_numpy(channel)
    if in_plane:
        tensor = functional.interpolate(tensor.unsqueeze(0), small, mode="nearest-exact")
        tensor = functional.interpolate(tensor, (height, width), mode="bilinear")[0]
    else:
        small.insert(0, max(1, round(depth * zoom)))
        tensor = functional.interpolate(tensor[None, None], small, mode="nearest-exact")
        tensor = functional.interpolate(tensor, (depth, height, width), mode="trilinear")[0, 0]
    return tensor.numpy()


def _apply_gamma(channel: FloatArray, gamma: float) -> None:
    """``x ** gamma`` over the channel's own range, keeping its mean and standard deviation; a constant channel is
    unchanged."""
    low, spread = float(channel.min()), float(np.ptp(channel))
    mean, deviation = float(channel.mean()), float(channel.std())
    if spread < _EPS:
        return
    channel -= low
    channel *= 1 / spread
    np.clip(channel, 0.0, 1.0, out=channel)
    np.power(channel, np.float32(gamma), out=channel)
    channel -= float(channel.mean())
    channel *= deviation / (float(channel.std()) + _EPS)
    channel += mean
