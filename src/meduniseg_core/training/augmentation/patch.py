"""Takes and augments one patch as nnU-Net does, within a few milliseconds (docs/spec.md section 6).

The spatial transform is drawn first; then only the region it needs is read, from a memory-mapped array if the case is
one, and resampled once. So nothing is interpolated twice, and a rotated patch shows the image's real surroundings
instead of a padded border. All randomness comes from the generator that is passed in, and no reduction runs on several
threads: the same generator state gives the same bits with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.training.augmentation.appearance import change_appearance
from meduniseg_core.training.augmentation.config import AugmentationConfig
from meduniseg_core.training.augmentation.intensity import change_intensities
from meduniseg_core.training.augmentation.spatial import (
    FloatArray,
    LabelArray,
    clamped,
    draw_transform,
    in_plane_only,
    read_all,
    read_box,
    resampled,
)


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
    """Take a patch from an image and augment it.

    If the image is large enough, the centre is moved so that an untransformed patch stays inside it. Outside the image
    both image and labels are 0. The image is interpolated linearly, labels take the nearest voxel.

    Args:
        data: (C, D, H, W); may be memory-mapped, only the needed region is read.
        seg: (D, H, W), likewise.
        centre: centre of the patch in voxels.
        patch: size (D, H, W) in voxels.
        mirror_axes: axes of (D, H, W) along which the patch may be mirrored.
        rng: source of all randomness.
        config: how often and how strongly a sample is changed.
        spacing: in mm, along (D, H, W). With it rotations are true in mm, and in-plane only if the depth is more than
            three times coarser. The same holds if the patch's own sides differ that much.

    Returns:
        Image float32 (C, D, H, W) and labels uint8 (D, H, W), in new arrays.

    Raises:
        ValueError: the shapes do not fit.
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
    zoom: float | None = None,
) -> tuple[FloatArray, LabelArray]:
    """:func:`sample_patch` for several label maps, which are all transformed alike.

    Args:
        data: (C, D, H, W).
        maps: K label maps (D, H, W).
        centre: centre of the patch in voxels.
        patch: size (D, H, W) in voxels.
        mirror_axes: axes of (D, H, W) along which the patch may be mirrored.
        rng: source of all randomness.
        config: how often and how strongly a sample is changed.
        spacing: in mm, along (D, H, W).
        zoom: replaces the random scale: below 1 the patch shows a smaller part of the image, enlarged.

    Returns:
        Image float32 (C, D, H, W) and labels uint8 (K, D, H, W).

    Raises:
        ValueError: the shapes do not fit.
    """
    in_plane, matrix, start = draw_place(data, maps, centre, patch, rng, config, spacing, zoom)
    if matrix is None:
        image, labels = read_box(data, start, patch, np.float32), read_all(maps, start, patch, np.uint8)
    else:
        image, labels = resampled(data, maps, start, patch, matrix, in_plane)
    if config.appearance.active:
        hidden = change_appearance(image, rng, config.appearance, labels[0])
        if hidden is not None:
            labels[:, hidden] = 0
    change_intensities(image, in_plane, rng, config)
    flipped = draw_flips(mirror_axes, rng, config)
    if flipped:
        image = np.ascontiguousarray(np.flip(image, flipped))
        labels = np.ascontiguousarray(np.flip(labels, flipped))
    return image, labels


def draw_place(
    data: npt.NDArray[np.floating],
    maps: Sequence[npt.NDArray[np.integer]],
    centre: Sequence[int],
    patch: Shape3,
    rng: np.random.Generator,
    config: AugmentationConfig,
    spacing: Vector3 | None,
    zoom: float | None,
) -> tuple[bool, npt.NDArray[np.float64] | None, list[int]]:
    """Draw where and how a patch is taken; arguments as for :func:`sample_maps`.

    Args:
        data: (C, D, H, W).
        maps: K label maps (D, H, W).
        centre: centre of the patch in voxels.
        patch: size (D, H, W) in voxels.
        rng: source of all randomness.
        config: how often and how strongly a sample is changed.
        spacing: in mm, along (D, H, W).
        zoom: replaces the random scale.

    Returns:
        Whether the patch is changed in its planes only; the matrix of `spatial.draw_transform`, None for a plain crop;
        the untransformed patch's first voxels.

    Raises:
        ValueError: the shapes do not fit.
    """
    for seg in maps:
        if data.ndim != 4 or data.shape[1:] != seg.shape:
            raise ValueError(f"an image of shape {data.shape} does not fit labels of shape {seg.shape}")
    in_plane = in_plane_only(patch, spacing)
    matrix = draw_transform(patch, spacing, in_plane, rng, config, zoom)
    return in_plane, matrix, [_start(c, p, n, zoom) for c, p, n in zip(centre, patch, data.shape[1:], strict=True)]


def draw_flips(mirror_axes: Sequence[int], rng: np.random.Generator, config: AugmentationConfig) -> tuple[int, ...]:
    """Draw the axes along which a patch is mirrored.

    Args:
        mirror_axes: axes of (D, H, W) along which it may be.
        rng: draws them.
        config: how often.

    Returns:
        Axes of (C, D, H, W).
    """
    return tuple(axis + 1 for axis in mirror_axes if rng.random() < config.p_mirror)


def _start(centre: int, size: int, available: int, zoom: float | None) -> int:
    """The patch's first voxel, moved so that what the patch shows stays inside the image if that is large enough."""
    shown = size if zoom is None or size == 1 else max(1, round(size * zoom))
    return clamped(centre - shown // 2, shown, available) + shown // 2 - size // 2
