"""nnU-Net's intensity augmentations, all in place on float32 (C, D, H, W)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from meduniseg_core.training.augmentation.config import AugmentationConfig, draw_factor

FloatArray = npt.NDArray[np.float32]

EPS = 1e-7
TRUNCATE = 3.0
"""Radius of a blur's kernel, in standard deviations."""


Kind = Literal["noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma"]


@dataclass(frozen=True)
class Change:
    """One operation on one channel (on all channels: noise), and its strength."""

    kind: Kind
    channel: int
    amount: float


def draw_changes(channels: int, rng: np.random.Generator, config: AugmentationConfig) -> Iterator[Change]:
    """Draw nnU-Net's operations in nnU-Net's order. Each channel draws its own strength, which jitters the colour of
    RGB.

    Args:
        channels: number of the image's channels.
        rng: decides what is changed and how much.
        config: how often and how strongly.

    Yields:
        The operations; the next ones are drawn only when they are asked for.
    """
    if rng.random() < config.p_noise:
        yield Change("noise", 0, rng.uniform(*config.noise))
    if rng.random() < config.p_blur:
        for channel in range(channels):
            if rng.random() < config.p_blur_channel:
                yield Change("blur", channel, rng.uniform(*config.blur))
    if rng.random() < config.p_brightness:
        for channel in range(channels):
            yield Change("brightness", channel, draw_factor(config.brightness, rng))
    if rng.random() < config.p_contrast:
        for channel in range(channels):
            yield Change("contrast", channel, draw_factor(config.contrast, rng))
    if rng.random() < config.p_low_resolution:
        for channel in range(channels):
            if rng.random() < config.p_low_resolution_channel:
                yield Change("low_resolution", channel, rng.uniform(*config.low_resolution))
    if rng.random() < config.p_inverted_gamma:
        for channel in range(channels):
            yield Change("inverted_gamma", channel, draw_factor(config.gamma, rng))
    if rng.random() < config.p_gamma:
        for channel in range(channels):
            yield Change("gamma", channel, draw_factor(config.gamma, rng))


def change_intensities(image: FloatArray, in_plane: bool, rng: np.random.Generator, config: AugmentationConfig) -> None:
    """Apply the operations of :func:`draw_changes`.

    Args:
        image: float32 (C, D, H, W), changed in place.
        in_plane: whether the depth is too coarse to be made coarser still.
        rng: decides what is changed and how much.
        config: how often and how strongly.
    """
    for change in draw_changes(len(image), rng, config):
        _apply(image, change, in_plane, rng)


def _apply(image: FloatArray, change: Change, in_plane: bool, rng: np.random.Generator) -> None:
    channel, amount = image[change.channel], change.amount
    if change.kind == "noise":
        image += amount * rng.standard_normal(image.shape, dtype=np.float32)
    elif change.kind == "blur":
        sigmas = [amount if size > 1 else 0.0 for size in channel.shape]
        ndimage.gaussian_filter(channel, sigmas, output=channel, truncate=TRUNCATE)
    elif change.kind == "brightness":
        channel *= amount
    elif change.kind == "contrast":
        low, high, mean = float(channel.min()), float(channel.max()), float(channel.mean())
        channel *= amount
        channel += mean * (1 - amount)
        np.clip(channel, low, high, out=channel)
    elif change.kind == "low_resolution":
        channel[...] = coarsened(torch.from_numpy(channel), amount, in_plane).numpy()
    elif change.kind == "inverted_gamma":
        np.negative(channel, out=channel)
        _apply_gamma(channel, amount)
        np.negative(channel, out=channel)
    else:
        _apply_gamma(channel, amount)


def coarsened(tensor: Tensor, zoom: float, in_plane: bool) -> Tensor:
    """Resample to a coarser grid by nearest neighbour and back linearly; the depth only if it is not coarse.

    Args:
        tensor: one channel (D, H, W).
        zoom: sides of the coarse grid over those of the fine one.
        in_plane: leave the depth as it is.

    Returns:
        A channel of the same size.
    """
    depth, height, width = tensor.shape
    small = [max(1, round(size * zoom)) for size in (height, width)]
    if in_plane:
        tensor = functional.interpolate(tensor.unsqueeze(0), small, mode="nearest-exact")
        tensor = functional.interpolate(tensor, (height, width), mode="bilinear")[0]
    else:
        small.insert(0, max(1, round(depth * zoom)))
        tensor = functional.interpolate(tensor[None, None], small, mode="nearest-exact")
        tensor = functional.interpolate(tensor, (depth, height, width), mode="trilinear")[0, 0]
    return tensor


def _apply_gamma(channel: FloatArray, gamma: float) -> None:
    """``x ** gamma`` over the channel's own range, keeping its mean and standard deviation; a constant channel is
    unchanged."""
    low, spread = float(channel.min()), float(np.ptp(channel))
    mean, deviation = float(channel.mean()), float(channel.std())
    if spread < EPS:
        return
    channel -= low
    channel *= 1 / spread
    np.clip(channel, 0.0, 1.0, out=channel)
    np.power(channel, np.float32(gamma), out=channel)
    channel -= float(channel.mean())
    channel *= deviation / (float(channel.std()) + EPS)
    channel += mean
