"""nnU-Net's augmentation for one sample, at the price of a few milliseconds (SPEC section 6).

The spatial transform is drawn first; then just the region it needs is read, from a memory-mapped array if that is what
the case is, and resampled once. So nothing is interpolated twice, and a rotated patch shows the image's real
surroundings instead of a padded border. All randomness comes from the generator that is passed in, and no
reduction runs on several threads: the same generator state gives the same bits, whatever the thread count.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Annotated, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from scipy import ndimage
from torch.nn import functional

from meduniseg_core.images.geometry import Shape3, Vector3

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)

ANISOTROPIC = 3.0
"""Above this ratio of depth spacing or patch sides a volume is rotated and scaled in plane only, as in nnU-Net."""

_ELONGATED = 1.5  # a 2D patch whose sides differ by more turns by at most 15 degrees, as in nnU-Net
_EPS = 1e-7


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1]:
        raise ValueError("a range is two numbers, not negative, the smaller one first")
    return limits


def _around_one(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= 1 <= limits[1]:
        raise ValueError("a range of factors is two positive numbers with 1 between them")
    return limits


def _zoom_out(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError("a range of zooms is two numbers above 0 and up to 1, the smaller one first")
    return limits


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
FactorRange = Annotated[tuple[float, float], AfterValidator(_around_one)]
ZoomRange = Annotated[tuple[float, float], AfterValidator(_zoom_out)]


class AugmentationConfig(BaseModel):
    """How often (``p_...``, per sample) and how strongly a sample is changed; nnU-Net's defaults.

    Angles in degrees. Intensities are those after normalisation (about zero mean, unit spread). Factors are drawn below
    1 as often as above. ``p_..._channel`` is the share of channels that a chosen operation changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_rotation: Probability = 0.2
    rotation_2d: float = Field(default=180.0, ge=0, le=180, description="largest angle of 2D images")
    rotation_3d: float = Field(default=30.0, ge=0, le=180, description="largest angle about each axis of volumes")
    p_scaling: Probability = 0.2
    scaling: FactorRange = (0.7, 1.4)
    p_noise: Probability = 0.1
    noise: Range = (0.0, 0.1)
    p_blur: Probability = 0.2
    p_blur_channel: Probability = 0.5
    blur: Range = (0.5, 1.0)
    p_brightness: Probability = 0.15
    brightness: FactorRange = (0.75, 1.25)
    p_contrast: Probability = 0.15
    contrast: FactorRange = (0.75, 1.25)
    p_low_resolution: Probability = 0.25
    p_low_resolution_channel: Probability = 0.5
    low_resolution: ZoomRange = (0.5, 1.0)
    p_gamma: Probability = 0.3
    p_inverted_gamma: Probability = 0.1
    gamma: FactorRange = (0.7, 1.5)
    p_mirror: Probability = 0.5

    @classmethod
    def none(cls) -> Self:
        """Plain crops: every probability 0."""
        return cls.model_validate({name: 0.0 for name in cls.model_fields if name.startswith("p_")})


def sample_patch(
    data: npt.NDArray[np.floating],
    seg: npt.NDArray[np.integer],
    centre: Sequence[int],
    patch: Shape3,
    mirror_axes: Sequence[int],
    rng: np.random.Generator,
    config: AugmentationConfig,
    *,
    spacing: Vector3 | None = None,
) -> tuple[FloatArray, LabelArray]:
    """A patch about ``centre``, augmented: image float32 (C, D, H, W) and label uint8 (D, H, W), freshly allocated.

    ``data`` (C, D, H, W) and ``seg`` (D, H, W) may be memory-mapped; only the needed region is read. The centre is
    moved so far that an untransformed patch stays inside the image where the image is large enough; what lies outside
    the image is 0, in the label too. ``mirror_axes`` are axes of (D, H, W). ``spacing`` (mm) makes rotations true in mm
    and, where the depth is more than three times coarser, in-plane; the patch's own sides decide likewise. The image
    is interpolated linearly, the label takes the nearest voxel. Raises ValueError if the shapes do not fit.
    """
    image, labels = sample_maps(data, (seg,), centre, patch, mirror_axes, rng, config, spacing=spacing)
    return image, labels[0]


def sample_maps(
    data: npt.NDArray[np.floating],
    maps: Sequence[npt.NDArray[np.integer]],
    centre: Sequence[int],
    patch: Shape3,
    mirror_axes: Sequence[int],
    rng: np.random.Generator,
    config: AugmentationConfig,
    *,
    spacing: Vector3 | None = None,
) -> tuple[FloatArray, LabelArray]:
    """:func:`sample_patch` with K label ``maps`` (D, H, W) that are all transformed alike: uint8 (K, D, H, W)."""
    for seg in maps:
        if data.ndim != 4 or data.shape[1:] != seg.shape:
            raise ValueError(f"an image of shape {data.shape} does not fit labels of shape {seg.shape}")
    in_plane = _in_plane_only(patch, spacing)
    matrix = _draw_transform(patch, spacing, in_plane, rng, config)
    start = [_clamped(c - p // 2, p, n) for c, p, n in zip(centre, patch, data.shape[1:], strict=True)]
    if matrix is None:
        image, labels = _read(data, start, patch, np.float32), _read_all(maps, start, patch, np.uint8)
    else:
        image, labels = _resampled(data, maps, start, patch, matrix, in_plane)
    _change_intensities(image, in_plane, rng, config)
    flipped = tuple(axis + 1 for axis in mirror_axes if rng.random() < config.p_mirror)
    if flipped:
        image = np.ascontiguousarray(np.flip(image, flipped))
        labels = np.ascontiguousarray(np.flip(labels, flipped))
    return image, labels


def augment(
    image: npt.NDArray[np.floating],
    label: npt.NDArray[np.integer],
    *,
    patch: Shape3,
    mirror_axes: Sequence[int],
    rng: np.random.Generator,
    config: AugmentationConfig,
    spacing: Vector3 | None = None,
) -> tuple[FloatArray, LabelArray]:
    """:func:`sample_patch` about the middle of ``image`` (C, D, H, W) and ``label`` (D, H, W)."""
    middle = [size // 2 for size in label.shape]
    return sample_patch(image, label, middle, patch, mirror_axes, rng, config, spacing=spacing)


# --- space -----------------------------------------------------------------------------------------------------------


def _in_plane_only(patch: Shape3, spacing: Vector3 | None) -> bool:
    coarse = spacing is not None and spacing[0] > ANISOTROPIC * min(spacing[1:])
    return patch[0] == 1 or coarse or max(patch) > ANISOTROPIC * patch[0]


def _clamped(start: int, size: int, available: int) -> int:
    """``start`` moved so that ``size`` voxels fit; the patch lies about the middle of a smaller image."""
    if available <= size:
        return -((size - available) // 2)
    return min(max(start, 0), available - size)


def _draw_transform(
    patch: Shape3, spacing: Vector3 | None, in_plane: bool, rng: np.random.Generator, config: AugmentationConfig
) -> npt.NDArray[np.float64] | None:
    """3x3 matrix from offsets in the patch to offsets in the image, (d, h, w) voxels from the centre; None: a crop."""
    rotate, scale = rng.random() < config.p_rotation, rng.random() < config.p_scaling
    if not rotate and not scale:
        return None
    matrix = np.eye(3)
    if rotate:
        limit = config.rotation_2d if patch[0] == 1 else config.rotation_3d
        if patch[0] == 1 and max(patch[1:]) > _ELONGATED * min(patch[1:]):
            limit = min(limit, 15.0)
        for axis in (0,) if in_plane else (0, 1, 2):
            matrix = matrix @ _rotation(axis, np.deg2rad(rng.uniform(-limit, limit)))
        if spacing is not None:
            matrix = matrix * np.asarray(spacing)[None, :] / np.asarray(spacing)[:, None]
    if scale:
        factors = np.full(3, _factor(config.scaling, rng))
        if in_plane:
            factors[0] = 1.0
        matrix = matrix * factors
    return matrix


def _rotation(axis: int, angle: float) -> npt.NDArray[np.float64]:
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _read(
    array: npt.NDArray[np.generic], start: Sequence[int], size: Sequence[int], dtype: type[_T]
) -> npt.NDArray[_T]:
    """A copy of the box of the last three axes, zero where it leaves the array."""
    result = np.zeros((*array.shape[:-3], *size), dtype=dtype)
    source: list[slice | EllipsisType] = [Ellipsis]
    target: list[slice | EllipsisType] = [Ellipsis]
    for begin, length, available in zip(start, size, array.shape[-3:], strict=True):
        low, high = max(begin, 0), min(begin + length, available)
        if low >= high:
            return result
        source.append(slice(low, high))
        target.append(slice(low - begin, high - begin))
    result[tuple(target)] = array[tuple(source)]
    return result


def _read_all(
    maps: Sequence[npt.NDArray[np.generic]], start: Sequence[int], size: Sequence[int], dtype: type[_T]
) -> npt.NDArray[_T]:
    return np.stack([_read(seg, start, size, dtype) for seg in maps])


def _resampled(
    data: npt.NDArray[np.floating],
    maps: Sequence[npt.NDArray[np.integer]],
    start: Sequence[int],
    patch: Shape3,
    matrix: npt.NDArray[np.float64],
    in_plane: bool,
) -> tuple[FloatArray, LabelArray]:
    half = (np.asarray(patch) - 1) / 2
    centre = np.asarray(start) + half
    reach = np.abs(matrix) @ half
    # the box of all source voxels, with the neighbours that linear interpolation looks at
    low = np.floor(centre - reach).astype(int)
    size = np.ceil(centre + reach).astype(int) + 1 - low
    if in_plane:
        low[0], size[0] = start[0], patch[0]
    image = torch.from_numpy(_read(data, low.tolist(), size.tolist(), np.float32))
    labels = torch.from_numpy(_read_all(maps, low.tolist(), size.tolist(), np.float32))
    # coordinates in the box as grid_sample wants them (align_corners=False): voxel i of n is (2 i + 1) / n - 1
    linear = 2 * matrix / size[:, None]
    shift = (2 * (centre - low - matrix @ half) + 1) / size - 1
    axes = (1, 2) if in_plane else (0, 1, 2)
    grid = np.empty((*(patch[axis] for axis in axes), len(axes)), dtype=np.float32)
    for position, row in enumerate(reversed(axes)):  # grid_sample's order is x, y, z
        terms = np.ix_(*(linear[row, axis] * np.arange(patch[axis]) for axis in axes))
        total = terms[0] + shift[row]
        for term in terms[1:]:
            total = total + term
        grid[..., position] = total
    channels = image.shape[0]
    if in_plane:  # one plane's grid serves every slice of every channel
        image, labels = (array.reshape(1, -1, *size[1:].tolist()) for array in (image, labels))
    else:
        image, labels = image.unsqueeze(0), labels.unsqueeze(0)
    where = torch.from_numpy(grid).unsqueeze(0)
    image = functional.grid_sample(image, where, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = functional.grid_sample(labels, where, mode="nearest", padding_mode="zeros", align_corners=False)
    return image.reshape(channels, *patch).numpy(), labels.reshape(-1, *patch).numpy().astype(np.uint8)


# --- intensities: all in place on float32 (C, D, H, W) ---------------------------------------------------------------


def _factor(limits: tuple[float, float], rng: np.random.Generator) -> float:
    below = rng.random() < 0.5
    return float(rng.uniform(limits[0], 1.0) if below else rng.uniform(1.0, limits[1]))


def _change_intensities(
    image: FloatArray, in_plane: bool, rng: np.random.Generator, config: AugmentationConfig
) -> None:
    """nnU-Net's operations in nnU-Net's order. Channels draw their own strength: for RGB a colour jitter."""
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
            channel *= _factor(config.brightness, rng)
    if rng.random() < config.p_contrast:
        for channel in image:
            low, high, mean = float(channel.min()), float(channel.max()), float(channel.mean())
            factor = _factor(config.contrast, rng)
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
            _apply_gamma(channel, _factor(config.gamma, rng))
            np.negative(channel, out=channel)
    if rng.random() < config.p_gamma:
        for channel in image:
            _apply_gamma(channel, _factor(config.gamma, rng))


def _coarsened(channel: FloatArray, zoom: float, in_plane: bool) -> FloatArray:
    """(D, H, W) to a coarser grid by nearest neighbour and back linearly; in depth only where that is not coarse."""
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
    """``x ** gamma`` over the channel's own range, keeping its mean and spread. A constant channel stays as it is."""
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
