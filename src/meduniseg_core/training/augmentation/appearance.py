"""Changes that other cameras, scanners and contrast agents make: colour, light, curves, spots, overlays, compression.

In place on float32 (C, D, H, W), normalised intensities. A sample keeps each channel's mean and standard deviation,
because images are standardised one by one: of another camera's picture the network sees the standardised version, too.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Picture
from scipy import ndimage
from torch.nn import functional

from meduniseg_core.preprocessing import IGNORED
from meduniseg_core.training.augmentation.config import AppearanceConfig

FloatArray = npt.NDArray[np.float32]
_EPS = 1e-6


def change_appearance(
    image: FloatArray,
    rng: np.random.Generator,
    config: AppearanceConfig,
    labels: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.bool_] | None:
    """Change an image as another device would.

    Args:
        image: float32 (C, D, H, W), changed in place.
        rng: decides what is changed and how much.
        config: how often and how strongly.
        labels: (D, H, W), whose classes may become brighter or darker; None: none of them.

    Returns:
        The part that a black frame hides, bool (D, H, W); None without a frame.
    """
    means = image.mean(axis=(1, 2, 3), keepdims=True)
    spreads = image.std(axis=(1, 2, 3), keepdims=True)
    low = image.min(axis=(1, 2, 3), keepdims=True)
    white = image.max(axis=(1, 2, 3), keepdims=True) - low
    if float(white.min()) < _EPS:
        return None  # a constant channel has nothing to change
    image -= low
    image /= white
    hidden = _change(image, rng, config, labels)
    image -= image.mean(axis=(1, 2, 3), keepdims=True)
    image *= spreads / (image.std(axis=(1, 2, 3), keepdims=True) + _EPS)
    image += means
    return hidden


def _change(
    image: FloatArray, rng: np.random.Generator, config: AppearanceConfig, labels: npt.NDArray[np.integer] | None
) -> npt.NDArray[np.bool_] | None:
    """Apply the operations to ``image`` (values 0 to 1) in the order in which patient and device make them."""
    hidden = None
    if labels is not None and rng.random() < config.p_class_contrast:
        _enhance(image, labels, config.class_contrast, rng)
    if rng.random() < config.p_illumination:
        image *= np.exp(_smooth_field(image.shape[1:], config.illumination, rng))
    if rng.random() < config.p_gain:
        slope = rng.uniform(-config.gain, config.gain)
        image *= np.exp(slope * np.linspace(-0.5, 0.5, image.shape[2], dtype=np.float32))[:, None]
    if rng.random() < config.p_speckle:
        noise = rng.standard_normal(image.shape[1:], dtype=np.float32)
        image *= 1 + np.float32(rng.uniform(*config.speckle)) * noise
    if rng.random() < config.p_spots:
        _draw_spots(image, rng)
    if rng.random() < config.p_soft:
        sigma = rng.uniform(*config.soft)
        for channel in image:
            sigmas = [sigma if size > 1 else 0.0 for size in channel.shape]
            ndimage.gaussian_filter(channel, sigmas, output=channel, truncate=3.0)
    if len(image) == 3 and rng.random() < config.p_colour:
        _mix_colours(image, config.colour, rng)
    if rng.random() < config.p_grey_curve:
        _bend(image, config.grey_curve, rng)
    if rng.random() < config.p_overlay:
        _draw_overlay(image, rng)
    if rng.random() < config.p_frame:
        hidden = np.broadcast_to(_frame(image.shape[2:], rng), image.shape[1:])
        image[:, hidden] = 0.0
    np.clip(image, 0.0, 1.0, out=image)
    if image.shape[1] == 1 and len(image) in (1, 3) and rng.random() < config.p_jpeg:
        _compress(image, int(rng.integers(config.jpeg[0], config.jpeg[1] + 1)))
    return hidden


def _enhance(image: FloatArray, labels: npt.NDArray[np.integer], strength: float, rng: np.random.Generator) -> None:
    """Make each class, three times out of four, brighter or darker as a whole; its border stays soft."""
    for name in np.unique(labels[(labels > 0) & (labels != IGNORED)]):
        if rng.random() < 0.25:
            continue
        sigma, amount = rng.uniform(0.5, 2.0), rng.uniform(-strength, strength)
        inside = (labels == name).astype(np.float32)
        sigmas = [sigma if size > 1 else 0.0 for size in inside.shape]
        image += np.float32(amount) * ndimage.gaussian_filter(inside, sigmas, truncate=3.0)
    np.clip(image, 0.0, 1.0, out=image)


def _smooth_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> FloatArray:
    """A field (D, H, W) between -strength and strength that varies over a third of the image."""
    knots = rng.uniform(-strength, strength, size=(1 if shape[0] == 1 else 3, 3, 3)).astype(np.float32)
    coarse = torch.from_numpy(knots)[None, None]
    size = [int(n) for n in shape]
    return functional.interpolate(coarse, size, mode="trilinear", align_corners=True)[0, 0].numpy()


def _mix_colours(image: FloatArray, strength: float, rng: np.random.Generator) -> None:
    """Mix a share of the other channels into each (changes the hue), and move all away from or towards grey
    (saturation)."""
    mix = np.eye(3) + rng.uniform(-strength, strength, size=(3, 3)) * (1 - np.eye(3))
    grey = np.full((3, 3), 1 / 3)
    saturation = rng.uniform(1 - 2 * strength, 1 + strength)
    matrix = (saturation * np.eye(3) + (1 - saturation) * grey) @ mix
    matrix /= matrix.sum(axis=1, keepdims=True)  # white stays white
    image[...] = np.einsum("ij,j...->i...", matrix.astype(np.float32), image)


def _bend(image: FloatArray, strength: float, rng: np.random.Generator) -> None:
    """Apply a rising piecewise linear curve through five random points: nearly the same curve to all channels."""
    shared = rng.uniform(1 - strength, 1 + strength, size=4)
    places = np.linspace(0, 1, 5)
    for channel in image:
        steps = shared * (rng.uniform(1 - strength / 3, 1 + strength / 3, size=4) if len(image) > 1 else 1.0)
        levels = np.concatenate([[0.0], np.cumsum(steps)])
        channel[...] = np.interp(channel, places, levels / levels[-1])


def _draw_spots(image: FloatArray, rng: np.random.Generator) -> None:
    """Draw up to eight soft white ellipses."""
    height, width = image.shape[2:]
    rows, columns = np.ogrid[:height, :width]
    light = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.integers(1, 9))):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        a, b = rng.uniform(0.005, 0.04, size=2) * max(height, width)
        distance = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2
        light = np.maximum(light, np.exp(-(distance**2)).astype(np.float32))
    image += light * (1 - image)


def _draw_overlay(image: FloatArray, rng: np.random.Generator) -> None:
    """Draw lines of small marks (like text and rulers) in one colour, mostly near the borders."""
    height, width = image.shape[2:]
    ink = rng.uniform(0, 1, size=(len(image), 1, 1, 1)).astype(np.float32).round()
    size = max(2, round(max(height, width) / 60))
    for _ in range(int(rng.integers(1, 4))):
        upright = rng.random() < 0.3
        y = int(rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1), rng.uniform(0, 1)]) * (height - size))
        x = int(rng.uniform(0, 0.8) * width)
        for _ in range(int(rng.integers(3, 14))):
            if rng.random() < 0.85:
                h, w = int(rng.integers(1, size + 1)), int(rng.integers(1, size + 1))
                image[:, :, y : y + h, x : x + w] = ink
            if upright:
                y += size + 1
            else:
                x += size + 1


def _frame(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The part of the picture that a frame covers (1, H, W): straight borders, outside a circle, or cut corners."""
    rows = np.linspace(-1, 1, shape[0])[:, None]
    columns = np.linspace(-1, 1, shape[1])[None, :]
    kind = rng.integers(3)
    if kind == 0:
        top, bottom, left, right = rng.uniform(0.8, 1.0, size=4)
        covered = (rows < -top) | (rows > bottom) | (columns < -left) | (columns > right)
    elif kind == 1:
        covered = rows**2 + columns**2 > rng.uniform(0.95, 1.35) ** 2
    else:
        covered = np.abs(rows) + np.abs(columns) > rng.uniform(1.4, 1.9)
    return np.asarray(covered[None])


def _compress(image: FloatArray, quality: int) -> None:
    """Compress (1 or 3, 1, H, W) as JPEG and decompress it again."""
    pixels = np.rint(image[:, 0] * 255).astype(np.uint8)
    stream = io.BytesIO()
    Picture.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(
        stream, "JPEG", quality=quality
    )
    stream.seek(0)
    with Picture.open(stream) as picture:
        back = np.asarray(picture, dtype=np.float32) / 255
    image[:, 0] = back[None] if back.ndim == 2 else np.moveaxis(back, -1, 0)
