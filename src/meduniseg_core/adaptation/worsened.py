"""Copies of images that a network does worse on: what its own doubts look like is learned from them.

On the images that a model comes with its results are good, and a calibration that has seen only good results knows
nothing of bad ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box, box_slices
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.training.augmentation.appearance import change_appearance
from meduniseg_core.training.augmentation.config import AppearanceConfig

FloatArray = npt.NDArray[np.float32]

_SIGMA = (0.004, 0.03)  # of the longer side in plane
_NOISE = (0.03, 0.3)  # of the range of intensities
_GAMMA = (0.3, 3.0)
_CONTRAST = (0.15, 0.6)
_CROP = (0.3, 0.7)  # of every side in plane
_BESIDE = 32  # tries to find a crop without any class
_DEVICE = AppearanceConfig(
    p_illumination=0.5,
    illumination=1.0,
    p_gain=0.3,
    p_speckle=0.3,
    p_spots=0.3,
    p_soft=0.4,
    soft=(1.0, 4.0),
    p_colour=0.7,
    colour=0.5,
    p_grey_curve=0.7,
    grey_curve=0.8,
    p_overlay=0.3,
    p_jpeg=0.3,
    jpeg=(8, 40),
)


def worsened(image: Image, labels: Image, rng: np.random.Generator) -> tuple[Image, Image, str]:
    """Make a worse copy of an image.

    Args:
        image: (C, D, H, W), as it was read.
        labels: (1, D, H, W) on its grid.
        rng: draws what is done, and how strongly.

    Returns:
        The copy, its labels, and what was done to it.
    """
    kind = str(rng.choice([*_CHANGES, "crop", "beside"]))
    if kind in ("crop", "beside"):
        box = _crop(labels, rng, free=kind == "beside")
        return cut(image, box), cut(labels, box), kind
    channels = image.array.astype(np.float32)
    low = channels.min(axis=(1, 2, 3), keepdims=True)
    span = channels.max(axis=(1, 2, 3), keepdims=True) - low
    span[span == 0] = 1
    values = (channels - low) / span
    _CHANGES[kind](values, rng)
    back = np.clip(values, 0, 1) * span + low
    if np.issubdtype(image.array.dtype, np.integer):
        back = np.rint(back)
    return image.with_array(back.astype(image.array.dtype)), labels, kind


def cut(image: Image, box: Box) -> Image:
    """Cut a box out of an image.

    Args:
        image: (C, D, H, W).
        box: half-open, in voxels.

    Returns:
        The part, where it lies.
    """
    origin = image.geometry.affine @ np.array([box[0][0], box[1][0], box[2][0], 1.0])
    array = np.ascontiguousarray(image.array[(slice(None), *box_slices(box))])
    place = Geometry(
        shape=(array.shape[1], array.shape[2], array.shape[3]),
        spacing=image.geometry.spacing,
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=image.geometry.direction,
    )
    return replace(image, array=array, geometry=place)


def _crop(labels: Image, rng: np.random.Generator, free: bool) -> Box:
    """A part of the plane, all depths; ``free``: without any class, where one is soon found."""
    depth, height, width = labels.geometry.shape
    box = (0, depth), (0, height), (0, width)
    least = None
    for _ in range(_BESIDE if free else 1):
        sides = [max(2, round(float(rng.uniform(*_CROP)) * size)) for size in (height, width)]
        top, left = (int(rng.integers(0, size - side + 1)) for size, side in zip((height, width), sides, strict=True))
        candidate = (0, depth), (top, top + sides[0]), (left, left + sides[1])
        inside = int(np.count_nonzero(labels.array[(slice(None), *box_slices(candidate))]))
        if least is None or inside < least:
            least, box = inside, candidate
        if inside == 0:
            break
    return box


def _blur(values: FloatArray, rng: np.random.Generator) -> None:
    sigma = float(rng.uniform(*_SIGMA)) * max(values.shape[2:])
    for channel in values:
        ndimage.gaussian_filter(channel, [0, sigma, sigma], output=channel)


def _noise(values: FloatArray, rng: np.random.Generator) -> None:
    values += np.float32(rng.uniform(*_NOISE)) * rng.standard_normal(values.shape, dtype=np.float32)


def _curve(values: FloatArray, rng: np.random.Generator) -> None:
    np.power(values, np.float32(np.exp(rng.uniform(*np.log(_GAMMA)))), out=values)


def _contrast(values: FloatArray, rng: np.random.Generator) -> None:
    values -= 0.5
    values *= np.float32(rng.uniform(*_CONTRAST))
    values += 0.5 + 0.01 * rng.standard_normal(values.shape, dtype=np.float32)


def _device(values: FloatArray, rng: np.random.Generator) -> None:
    change_appearance(values, rng, _DEVICE)


def _covered(values: FloatArray, rng: np.random.Generator) -> None:
    """Rectangles of one grey over a part of the image."""
    height, width = values.shape[2:]
    for _ in range(int(rng.integers(2, 7))):
        sides = [max(1, round(float(rng.uniform(0.1, 0.4)) * size)) for size in (height, width)]
        top, left = (int(rng.integers(0, size - side + 1)) for size, side in zip((height, width), sides, strict=True))
        values[:, :, top : top + sides[0], left : left + sides[1]] = np.float32(rng.random())


_CHANGES: dict[str, Callable[[FloatArray, np.random.Generator], None]] = {
    "blur": _blur,
    "noise": _noise,
    "curve": _curve,
    "contrast": _contrast,
    "device": _device,
    "covered": _covered,
}
