"""Overlap and surface distance of two label maps, with a stated value for empty masks (docs/spec.md section 9).

| | both empty | one empty |
| --- | --- | --- |
| Dice, surface Dice | 1 | 0 |
| HD95 | 0 | the image's diagonal |

No case is ever dropped and no NaN arises. (MONAI's aggregation drops NaN, so a missed structure can raise a score.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from meduniseg_core.images.boxes import box_of

EMPTY_MASK_POLICY = (
    "A class absent from both prediction and reference counts as Dice 1, surface Dice 1 and HD95 0; absent from one of "
    "them, as Dice 0, surface Dice 0 and HD95 = the diagonal of the image."
)

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Spacing = Sequence[float]


def dice(prediction: Labels, reference: Labels, label: int) -> float:
    """Compute the Dice score of one label. Both masks empty: 1; one empty: 0.

    Args:
        prediction: labels of any shape.
        reference: labels of the same shape.
        label: the class.

    Returns:
        0 to 1.

    Raises:
        ValueError: the shapes differ.
    """
    _check(prediction, reference)
    p, r = prediction == label, reference == label
    volume = int(np.count_nonzero(p)) + int(np.count_nonzero(r))
    return 2 * int(np.count_nonzero(p & r)) / volume if volume else 1.0


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance (mm) of every boundary voxel of one mask to the nearest one of the other, in both directions.

    A boundary voxel belongs to the mask and has a face neighbour that does not. Beyond the image lies background,
    except along axes of size 1 (a 2D image has an outline). ``diagonal`` is the image's, in mm; it is the distance
    where one mask is empty.
    """

    prediction_to_reference: npt.NDArray[np.float64]
    reference_to_prediction: npt.NDArray[np.float64]
    diagonal: float

    @property
    def hausdorff95(self) -> float:
        """The larger of the two directed 95th percentiles, in mm."""
        sides = (self.prediction_to_reference, self.reference_to_prediction)
        if not all(len(side) for side in sides):
            return 0.0 if not any(len(side) for side in sides) else self.diagonal
        if not all(np.isfinite(side).all() for side in sides):
            return self.diagonal
        return max(float(np.percentile(side, 95)) for side in sides)

    def surface_dice(self, tolerance: float) -> float:
        """Compute the share of both masks' boundary voxels that lie near the other boundary.

        Args:
            tolerance: The largest distance that counts as near, in mm.

        Returns:
            0 to 1.

        Raises:
            ValueError: the tolerance is negative.
        """
        if tolerance < 0:
            raise ValueError(f"a tolerance of {tolerance} mm is negative")
        total = len(self.prediction_to_reference) + len(self.reference_to_prediction)
        if not total:
            return 1.0
        within = np.count_nonzero(self.prediction_to_reference <= tolerance)
        within += np.count_nonzero(self.reference_to_prediction <= tolerance)
        return int(within) / total


def surface_distances(prediction: Mask, reference: Mask, spacing: Spacing) -> SurfaceDistances:
    """Measure the distances between the boundaries of two masks. If one is empty, the other's distances are infinite.

    Args:
        prediction: bool, of any shape.
        reference: bool, of the same shape.
        spacing: in mm, one entry for each axis.

    Returns:
        The distances both ways, in mm.

    Raises:
        ValueError: shapes or spacing do not fit.
    """
    _check(prediction, reference)
    if len(spacing) != prediction.ndim or min(spacing) <= 0:
        raise ValueError(f"spacing {tuple(spacing)} does not fit an array of {prediction.ndim} axes")
    steps = np.asarray(spacing, dtype=np.float64)
    diagonal = float(np.linalg.norm([n * step for n, step in zip(prediction.shape, steps, strict=True) if n > 1]))
    # what lies around the masks does not matter: look at their joint bounding box only
    box = box_of(prediction | reference) or (slice(0, 0),) * prediction.ndim
    flat = tuple(axis for axis, size in enumerate(prediction.shape) if size == 1)
    points = [_boundary(mask[box], flat) * steps for mask in (prediction, reference)]
    there, back = (_nearest(points[a], points[b]) for a, b in ((0, 1), (1, 0)))
    return SurfaceDistances(there, back, diagonal)


def hausdorff95(prediction: Labels, reference: Labels, label: int, spacing: Spacing) -> float:
    """Compute the 95th percentile Hausdorff distance of one label. Both empty: 0; one empty: the image's diagonal.

    Args:
        prediction: labels of any shape.
        reference: labels of the same shape.
        label: the class.
        spacing: in mm, one entry for each axis.

    Returns:
        The distance in mm.

    Raises:
        ValueError: shapes or spacing do not fit.
    """
    return surface_distances(prediction == label, reference == label, spacing).hausdorff95


def surface_dice(prediction: Labels, reference: Labels, label: int, spacing: Spacing, tolerance: float) -> float:
    """Compute the surface Dice of one label. Both masks empty: 1; one empty: 0.

    Args:
        prediction: labels of any shape.
        reference: labels of the same shape.
        label: the class.
        spacing: in mm, one entry for each axis.
        tolerance: in mm.

    Returns:
        0 to 1.

    Raises:
        ValueError: shapes or spacing do not fit, or the tolerance is negative.
    """
    return surface_distances(prediction == label, reference == label, spacing).surface_dice(tolerance)


def weighted_dice(
    scores: Sequence[float] | npt.NDArray[np.float64], has_lesion: Sequence[bool] | npt.NDArray[np.bool_]
) -> float:
    """Compute SIIM's WDice = w0 * D0 + w1 * D1 over normal (0) and lesion images (1) (docs/spec.md section 9).

    D0 and D1 are the mean scores of the two groups. The weights are inversely proportional to the groups' sizes and sum
    to 1. If one group is empty, the result is the other's mean.

    Args:
        scores: Dice of every image.
        has_lesion: whether the image has a lesion.

    Returns:
        0 to 1.

    Raises:
        ValueError: no images, or lists of unequal length.
    """
    values, lesion = np.asarray(scores, dtype=np.float64), np.asarray(has_lesion, dtype=bool)
    if values.shape != lesion.shape or not values.size:
        raise ValueError("WDice needs one score and one flag per image, and at least one image")
    if lesion.all() or not lesion.any():
        return float(values.mean())
    normal_weight = lesion.sum() / lesion.size  # (1/n0) / (1/n0 + 1/n1) = n1 / (n0 + n1)
    return float(normal_weight * values[~lesion].mean() + (1 - normal_weight) * values[lesion].mean())


def _check(prediction: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(f"a prediction of shape {prediction.shape} does not fit a reference of {reference.shape}")


def _boundary(mask: Mask, flat: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Indices (N, axes) of the voxels of ``mask`` with a neighbour outside it; ``flat`` axes have no neighbours."""
    if not mask.any():
        return np.zeros((0, mask.ndim), dtype=np.int64)
    neighbours = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis in flat:
        neighbours[tuple(slice(None) if other != axis else [0, 2] for other in range(mask.ndim))] = False
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, neighbours))


def _nearest(points: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    # boundaries are sparse: a tree of their points is exact like a distance transform, and faster (0.17 s against
    # 0.38 s for two balls of radius 60 voxels)
    distances: npt.NDArray[np.float64] = KDTree(others).query(points)[0]
    return distances
