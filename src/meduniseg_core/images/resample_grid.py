"""Resampling of sheared grids (a tilted gantry, a 12-parameter affine) to perpendicular axes, and of labels back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

ORTHONORMAL_TOLERANCE = 1e-3
"""The largest cosine between two axes that count as perpendicular: 0.06 degrees, or 0.1 voxel over 100 voxels."""


def orthonormal_geometry(geometry: Geometry) -> Geometry:
    """Find the perpendicular grid that is closest in direction to a sheared one.

    The direction is the nearest rotation (by polar decomposition).

    Args:
        geometry: Any grid.

    Returns:
        A grid with the same spacing that covers all its voxels.
    """
    left, _, right = np.linalg.svd(np.asarray(geometry.direction))
    rotation = left @ right
    far = np.asarray(geometry.shape, dtype=np.float64) - 1
    corners = np.array([(d, h, w, 1) for d in (0, far[0]) for h in (0, far[1]) for w in (0, far[2])])
    along = (corners @ geometry.affine.T)[:, :3] @ rotation  # positions along the new axes, mm
    low, high = along.min(axis=0), along.max(axis=0)
    spacing = np.asarray(geometry.spacing)
    counts = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = rotation @ low
    return Geometry.from_affine(affine, (int(counts[0]), int(counts[1]), int(counts[2])))


def resample_to(image: Image, geometry: Geometry, *, labels: bool = False, outside: float | None = None) -> Image:
    """Resample an image onto another grid: linearly, or to the nearest voxel for labels.

    Args:
        image: ``(C, D, H, W)``.
        geometry: The grid to resample onto.
        labels: Whether the values are label ids.
        outside: The value beyond the image's edge; by default 0 for labels, else each channel's minimum.

    Returns:
        The image on that grid, in the same dtype (integers are rounded).
    """
    to_source = np.linalg.inv(image.geometry.affine) @ geometry.affine
    planes = []
    for channel in image.array:
        fill = outside if outside is not None else (0.0 if labels else float(channel.min()))
        if labels:
            moved = ndimage.affine_transform(
                channel, to_source[:3, :3], to_source[:3, 3], geometry.shape, order=0, mode="constant", cval=fill
            )
        else:
            wide = channel.astype(
                np.float32 if channel.dtype.itemsize <= 2 or channel.dtype == np.float32 else np.float64
            )
            moved = ndimage.affine_transform(
                wide, to_source[:3, :3], to_source[:3, 3], geometry.shape, order=1, mode="constant", cval=fill
            )
            moved = np.rint(moved) if channel.dtype.kind in "iu" else moved
        planes.append(moved.astype(channel.dtype, copy=False))
    return replace(image, array=np.stack(planes), geometry=geometry)


def resample_to_orthonormal(
    image: Image, *, tolerance: float = ORTHONORMAL_TOLERANCE, labels: bool = False
) -> tuple[Image, bool]:
    """Resample an image onto perpendicular axes, where its own are not.

    Bring results back with ``resample_to(result, image.geometry, labels=True)``.

    Args:
        image: ``(C, D, H, W)``.
        tolerance: The largest cosine between two axes that counts as perpendicular.
        labels: Whether the values are label ids.

    Returns:
        The image, and whether it had to be resampled.
    """
    if image.geometry.is_orthonormal(tolerance):
        return image, False
    return resample_to(image, orthonormal_geometry(image.geometry), labels=labels), True
