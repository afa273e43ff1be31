"""Rotation, scaling and cropping in one resampling; only the region that a patch needs is read."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.training.augmentation.config import AugmentationConfig, draw_factor

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)

ANISOTROPIC = 3.0
"""Above this ratio of spacings or patch sides a volume is rotated and scaled in-plane only, as in nnU-Net."""

_ELONGATED = 1.5  # a 2D patch whose sides differ by more is rotated by at most 15 degrees, as in nnU-Net


def in_plane_only(patch: Shape3, spacing: Vector3 | None) -> bool:
    """Whether a patch is rotated and scaled about its depth axis only.

    Args:
        patch: size (D, H, W) in voxels.
        spacing: in mm, along (D, H, W); None if unknown.

    Returns:
        True for 2D patches, and if the depth is much coarser or shorter than the other axes.
    """
    coarse = spacing is not None and spacing[0] > ANISOTROPIC * min(spacing[1:])
    return patch[0] == 1 or coarse or max(patch) > ANISOTROPIC * patch[0]


def clamped(start: int, size: int, available: int) -> int:
    """Move a patch so that it fits into the image along one axis; a smaller image is centred in the patch.

    Args:
        start: the patch's first voxel.
        size: the patch's length.
        available: the image's length.

    Returns:
        The first voxel; negative for a smaller image.
    """
    if available <= size:
        return -((size - available) // 2)
    return min(max(start, 0), available - size)


def draw_transform(
    patch: Shape3,
    spacing: Vector3 | None,
    in_plane: bool,
    rng: np.random.Generator,
    config: AugmentationConfig,
    zoom: float | None = None,
) -> npt.NDArray[np.float64] | None:
    """Draw a patch's spatial transform.

    Args:
        patch: size (D, H, W) in voxels.
        spacing: in mm, along (D, H, W); None if unknown.
        in_plane: transform only (H, W).
        rng: draws it.
        config: how often and how strongly.
        zoom: replaces the random scale: below 1 the patch shows a smaller part of the image, enlarged.

    Returns:
        The 3x3 matrix from offsets in the patch to offsets in the image, in (d, h, w) voxels from the centre; None for
        a plain crop.
    """
    rotate, scale = rng.random() < config.p_rotation, rng.random() < config.p_scaling
    # drawn only where it is used: runs without it keep their random numbers
    stretch = config.p_aspect > 0 and rng.random() < config.p_aspect
    if not (rotate or scale or stretch or zoom is not None):
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
    if scale or zoom is not None:
        drawn = draw_factor(config.scaling, rng) if scale else 1.0
        factors = np.full(3, drawn if zoom is None else zoom)
        if in_plane:
            factors[0] = 1.0
        matrix = matrix * factors
    if stretch:
        side = draw_factor(config.aspect, rng) ** 0.5
        matrix = np.diag([1.0, side, 1 / side]) @ matrix
    return matrix


def _rotation(axis: int, angle: float) -> npt.NDArray[np.float64]:
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def read_box(
    array: npt.NDArray[np.generic], start: Sequence[int], size: Sequence[int], dtype: type[_T]
) -> npt.NDArray[_T]:
    """Copy a box of the last three axes; parts outside the array are 0.

    Args:
        array: (..., D, H, W).
        start: the box's first voxels; may be negative.
        size: the box's size (d, h, w).
        dtype: type of the copy.

    Returns:
        (..., d, h, w).
    """
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


def read_all(
    maps: Sequence[npt.NDArray[np.generic]], start: Sequence[int], size: Sequence[int], dtype: type[_T]
) -> npt.NDArray[_T]:
    """Copy the same box of several label maps.

    Args:
        maps: K maps (D, H, W).
        start: the box's first voxels; may be negative.
        size: the box's size (d, h, w).
        dtype: type of the copy.

    Returns:
        (K, d, h, w); parts outside the maps are 0.
    """
    return np.stack([read_box(seg, start, size, dtype) for seg in maps])


def resampled(
    data: npt.NDArray[np.floating],
    maps: Sequence[npt.NDArray[np.integer]],
    start: Sequence[int],
    patch: Shape3,
    matrix: npt.NDArray[np.float64],
    in_plane: bool,
) -> tuple[FloatArray, LabelArray]:
    """Read a transformed patch: the image by linear interpolation, labels by nearest neighbour.

    Args:
        data: (C, D, H, W).
        maps: K label maps (D, H, W).
        start: the untransformed patch's first voxels.
        patch: size (D, H, W) in voxels.
        matrix: as returned by :func:`draw_transform`.
        in_plane: whether the matrix leaves the depth unchanged.

    Returns:
        Image float32 (C, D, H, W) and labels uint8 (K, D, H, W), of the patch's size.
    """
    half = (np.asarray(patch) - 1) / 2
    centre = np.asarray(start) + half
    reach = np.abs(matrix) @ half
    # the box of all source voxels, with the neighbours that linear interpolation looks at
    low = np.floor(centre - reach).astype(int)
    size = np.ceil(centre + reach).astype(int) + 1 - low
    if in_plane:
        low[0], size[0] = start[0], patch[0]
    image = torch.from_numpy(read_box(data, low.tolist(), size.tolist(), np.float32))
    labels = torch.from_numpy(read_all(maps, low.tolist(), size.tolist(), np.float32))
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
