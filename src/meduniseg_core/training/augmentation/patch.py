"""nnU-Net's augmentation for one sample, at the price of a few milliseconds (docs/spec.md section 6).

The spatial transform is drawn first; then just the region it needs is read, from a memory-mapped array if that is what
the case is, and resampled once. So nothing is interpolated twice, and a rotated patch shows the image's real
surroundings instead of a padded border. All randomness comes from the generator that is passed in, and no
reduction runs on several threads: the same generator state gives the same bits, whatever the thread count.
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
    """Take a patch from an image, and augment it.

    The centre is moved so far that an untransformed patch stays inside the image where the image is large enough; what
    lies outside the image is 0, in the label too. The image is interpolated linearly, the label takes the nearest
    voxel.

    Args:
        data: (C, D, H, W); may be memory-mapped, only the needed region is read.
        seg: (D, H, W), likewise.
        centre: of the patch, in voxels.
        patch: its size (D, H, W).
        mirror_axes: axes of (D, H, W) along which it may be mirrored.
        rng: all randomness comes from it.
        config: how often and how strongly a sample is changed.
        spacing: in mm. It makes rotations true in mm and, where the depth is more than three times coarser, in-plane;
            the patch's own sides decide likewise.

    Returns:
        Image float32 (C, D, H, W) and label uint8 (D, H, W), freshly allocated.

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
    """:func:`sample_patch` with several label maps that are all transformed alike.

    Args:
        data: (C, D, H, W).
        maps: K label maps (D, H, W).
        centre: of the patch, in voxels.
        patch: its size (D, H, W).
        mirror_axes: axes of (D, H, W) along which it may be mirrored.
        rng: all randomness comes from it.
        config: how often and how strongly a sample is changed.
        spacing: in mm.
        zoom: takes the place of a drawn scale: below 1 the patch shows a smaller part of the image, enlarged.

    Returns:
        Image float32 (C, D, H, W) and labels uint8 (K, D, H, W).

    Raises:
        ValueError: the shapes do not fit.
    """
    for seg in maps:
        if data.ndim != 4 or data.shape[1:] != seg.shape:
            raise ValueError(f"an image of shape {data.shape} does not fit labels of shape {seg.shape}")
    in_plane = in_plane_only(patch, spacing)
    matrix = draw_transform(patch, spacing, in_plane, rng, config, zoom)
    start = [_start(c, p, n, zoom) for c, p, n in zip(centre, patch, data.shape[1:], strict=True)]
    if matrix is None:
        image, labels = read_box(data, start, patch, np.float32), read_all(maps, start, patch, np.uint8)
    else:
        image, labels = resampled(data, maps, start, patch, matrix, in_plane)
    if config.appearance.active:
        hidden = change_appearance(image, rng, config.appearance)
        if hidden is not None:
            labels[:, hidden] = 0
    change_intensities(image, in_plane, rng, config)
    flipped = tuple(axis + 1 for axis in mirror_axes if rng.random() < config.p_mirror)
    if flipped:
        image = np.ascontiguousarray(np.flip(image, flipped))
        labels = np.ascontiguousarray(np.flip(labels, flipped))
    return image, labels


def _start(centre: int, size: int, available: int, zoom: float | None) -> int:
    """Where the patch begins, moved so far that what it shows stays inside the image where that is large enough."""
    shown = size if zoom is None or size == 1 else max(1, round(size * zoom))
    return clamped(centre - shown // 2, shown, available) + shown // 2 - size // 2
