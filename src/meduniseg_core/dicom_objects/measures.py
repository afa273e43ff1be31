"""What a report says about a class: volume or area, longest diameter, mean intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from meduniseg_core.images.image import Image


@dataclass(frozen=True)
class ClassMeasures:
    """The measures of one class. ``size`` is in mm³ of a volume, in mm² of a single plane; ``mean`` by channel."""

    voxels: int
    size: float
    longest: float
    mean: tuple[float, ...]


def measure_class(inside: np.ndarray, image: Image) -> ClassMeasures | None:
    """Measure a class.

    Args:
        inside: bool ``(D, H, W)``.
        image: The image on the same grid, with a size in mm.

    Returns:
        The measures; None for a class without a voxel.
    """
    voxels = int(np.count_nonzero(inside))
    if not voxels:
        return None
    geometry = image.geometry
    one = geometry.spacing[1] * geometry.spacing[2] if image.is_2d else geometry.voxel_volume
    mean = tuple(float(channel[inside].mean(dtype=np.float64)) for channel in image.array)
    return ClassMeasures(voxels, voxels * one, longest_diameter(inside, geometry.affine), mean)


def longest_diameter(inside: np.ndarray, affine: np.ndarray) -> float:
    """Measure the largest distance between two points of a mask's surface, halfway between voxels inside and outside.

    It is the IBSI's maximum 3D diameter (of the mesh at one half); of a single plane the same within the plane.

    Args:
        inside: bool ``(D, H, W)``, not empty.
        affine: (4, 4), from index to mm.

    Returns:
        mm.
    """
    (box,) = ndimage.find_objects(inside.astype(np.uint8), 1)
    part = inside[box]
    axes = [axis for axis, size in enumerate(inside.shape) if size > 1 or axis > 0]
    points = np.concatenate([_ends(part, axis) for axis in axes]) @ affine[:3, :3].T
    corners = points[ConvexHull(_within(points, affine, axes)).vertices]
    return float(pdist(corners).max())


def _ends(part: np.ndarray, axis: int) -> np.ndarray:
    """The surface's points before the first and after the last voxel of every line along an axis; those between lie
    inside the hull of all."""
    moved = np.moveaxis(part, axis, -1)
    lines = np.argwhere(moved.any(axis=-1))
    of_line = moved[lines[:, 0], lines[:, 1]]
    first = of_line.argmax(axis=1) - 0.5
    last = of_line.shape[1] - of_line[:, ::-1].argmax(axis=1) - 0.5
    points = [np.insert(lines.astype(np.float64), axis, end, axis=1) for end in (first, last)]
    return np.concatenate(points)


def _within(points: np.ndarray, affine: np.ndarray, axes: list[int]) -> np.ndarray:
    """The points' coordinates in their plane, where there is a single one (a hull needs as many as it has room for)."""
    if len(axes) == 3:
        return points
    basis, _ = np.linalg.qr(affine[:3, axes])
    flat: np.ndarray = points @ basis
    return flat
