"""Rotation, scaling and cropping in one resampling; only the region that a patch needs is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
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
    where = Sampling.of(start, patch, matrix, in_plane)
    image = torch.from_numpy(read_box(data, where.low, where.size, np.float32))
    labels = torch.from_numpy(read_all(maps, where.low, where.size, np.float32))
    grid = torch.from_numpy(where.grid())
    return where.read(image, grid, "bilinear").numpy(), where.read(labels, grid, "nearest").numpy().astype(np.uint8)


@dataclass(frozen=True)
class Sampling:
    """Where a transformed patch lies in its image.

    ``low`` and ``size`` are the box of all source voxels, with the neighbours that linear interpolation looks at.
    ``linear`` (3, 3) and ``shift`` (3,) take a voxel of the patch to its place in the box, as grid_sample counts it.
    """

    low: tuple[int, ...]
    size: tuple[int, ...]
    patch: Shape3
    linear: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    in_plane: bool

    @classmethod
    def of(cls, start: Sequence[int], patch: Shape3, matrix: npt.NDArray[np.float64], in_plane: bool) -> Sampling:
        """Find the place of a patch.

        Args:
            start: the untransformed patch's first voxels.
            patch: size (D, H, W) in voxels.
            matrix: as returned by :func:`draw_transform`.
            in_plane: whether the matrix leaves the depth unchanged.

        Returns:
            The place.
        """
        half = (np.asarray(patch) - 1) / 2
        centre = np.asarray(start) + half
        reach = np.abs(matrix) @ half
        low = np.floor(centre - reach).astype(int)
        size = np.ceil(centre + reach).astype(int) + 1 - low
        if in_plane:
            low[0], size[0] = start[0], patch[0]
        # coordinates in the box as grid_sample wants them (align_corners=False): voxel i of n is (2 i + 1) / n - 1
        linear = 2 * matrix / size[:, None]
        shift = (2 * (centre - low - matrix @ half) + 1) / size - 1
        return cls(tuple(low.tolist()), tuple(size.tolist()), patch, linear, shift, in_plane)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes (of D, H, W) along which the patch is transformed."""
        return (1, 2) if self.in_plane else (0, 1, 2)

    def terms(self, row: int) -> list[npt.NDArray[np.float64]]:
        """What each voxel index of the patch adds to one coordinate.

        Args:
            row: the coordinate, an axis of (D, H, W).

        Returns:
            A vector for each of ``axes``, of the patch's length along it.
        """
        return [self.linear[row, axis] * np.arange(self.patch[axis]) for axis in self.axes]

    def grid(self) -> FloatArray:
        """The coordinates of all voxels of the patch.

        Returns:
            (d, h, w, 3), or (h, w, 2) for a transform in the plane; the last axis is x, y, z, grid_sample's order.
        """
        axes = self.axes
        grid = np.empty((*(self.patch[axis] for axis in axes), len(axes)), dtype=np.float32)
        for position, row in enumerate(reversed(axes)):
            terms = np.ix_(*self.terms(row))
            total = terms[0] + self.shift[row]
            for term in terms[1:]:
                total = total + term
            grid[..., position] = total
        return grid

    def read(self, box: Tensor, grid: Tensor, mode: str) -> Tensor:
        """Interpolate.

        Args:
            box: (N, d, h, w), the box of the image or of label maps, float32.
            grid: as :meth:`grid`, on the same device.
            mode: "bilinear" or "nearest".

        Returns:
            (N, D, H, W), of the patch's size; 0 outside the box.
        """
        # one plane's grid serves every slice of every channel
        source = box.reshape(1, -1, *box.shape[2:]) if self.in_plane else box.unsqueeze(0)
        found = functional.grid_sample(source, grid.unsqueeze(0), mode=mode, padding_mode="zeros", align_corners=False)
        return found.reshape(-1, *self.patch)
