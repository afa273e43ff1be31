"""One internal orientation for all files: axes are permuted and flipped, never resampled, and restored exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from types import EllipsisType
from typing import TypeVar

import numpy as np

from meduniseg_core.images.boxes import Box
from meduniseg_core.images.geometry import Geometry, Shape3
from meduniseg_core.images.image import Image

_ROW_OF_AXIS = (2, 1, 0)
"""Canonically d runs along z (to the head), h along y (to the back), w along x (to the left), all LPS."""

_NEAR = 1e-9

Index = TypeVar("Index", int, np.ndarray)


@dataclass(frozen=True)
class Reorientation:
    """How spatial axes were reordered: axis ``n`` of the result is the source's axis ``axes[n]``, flipped or not."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.axes == (0, 1, 2) and not any(self.flips)

    @property
    def _index(self) -> tuple[EllipsisType | slice, ...]:
        return (..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))

    def forward(self, array: np.ndarray) -> np.ndarray:
        """Bring an array into the new orientation.

        Args:
            array: ``(..., D, H, W)``; leading axes stay as they are.

        Returns:
            A view.
        """
        lead = array.ndim - 3
        moved = np.transpose(array, (*range(lead), *(lead + axis for axis in self.axes)))
        return moved[self._index]

    def inverse(self, array: np.ndarray) -> np.ndarray:
        """Bring an array back into the source's orientation: undoes `forward` exactly.

        Args:
            array: ``(..., D, H, W)`` in the new orientation.

        Returns:
            A view.
        """
        lead = array.ndim - 3
        unflipped = array[self._index]
        back = np.argsort(self.axes)
        return np.transpose(unflipped, (*range(lead), *(lead + int(axis) for axis in back)))

    def forward_index(self, index: Sequence[Index], shape: Shape3) -> tuple[Index, Index, Index]:
        """Find where voxels of the source lie in the new orientation.

        Args:
            index: (d, h, w) of a voxel, or of many voxels as three integer arrays.
            shape: The source's voxels along ``(D, H, W)``.

        Returns:
            Their index in the reoriented array.
        """
        one, two, three = (
            shape[axis] - 1 - index[axis] if flip else index[axis]
            for axis, flip in zip(self.axes, self.flips, strict=True)
        )
        return one, two, three

    def inverse_index(self, index: Sequence[Index], shape: Shape3) -> tuple[Index, Index, Index]:
        """Find where voxels of the new orientation lie in the source: undoes `forward_index`.

        Args:
            index: (d, h, w) in the reoriented array.
            shape: The source's voxels along ``(D, H, W)``.

        Returns:
            Their index in the source's array.
        """
        found = list(index)
        for value, axis, flip in zip(index, self.axes, self.flips, strict=True):
            found[axis] = shape[axis] - 1 - value if flip else value
        return found[0], found[1], found[2]

    def forward_box(self, box: Box, shape: Shape3) -> Box:
        """Bring a box of the source into the new orientation.

        Args:
            box: Ranges in voxels of the source's array.
            shape: The source's voxels along ``(D, H, W)``.

        Returns:
            The ranges in the reoriented array.
        """
        turned = []
        for axis, flip in zip(self.axes, self.flips, strict=True):
            low, high = box[axis]
            turned.append((shape[axis] - high, shape[axis] - low) if flip else (low, high))
        return turned[0], turned[1], turned[2]

    def inverse_box(self, box: Box, shape: Shape3) -> Box:
        """Bring a box of the new orientation back into the source's.

        Args:
            box: Ranges in voxels of the reoriented array.
            shape: The source's voxels along ``(D, H, W)``.

        Returns:
            The ranges in the source's array.
        """
        found = list(box)
        for (low, high), axis, flip in zip(box, self.axes, self.flips, strict=True):
            found[axis] = (shape[axis] - high, shape[axis] - low) if flip else (low, high)
        return found[0], found[1], found[2]

    def forward_geometry(self, geometry: Geometry) -> Geometry:
        """Bring a grid into the new orientation, as `forward` does its array.

        Args:
            geometry: The source's grid.

        Returns:
            The grid of the reoriented array; every voxel stays where it is.
        """
        affine = np.array(geometry.affine)
        shape = geometry.shape
        columns = affine[:3, list(self.axes)]
        origin = affine[:3, 3].copy()
        for position, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            if flip:
                origin += columns[:, position] * (shape[axis] - 1)
        signs = [-1.0 if flip else 1.0 for flip in self.flips]
        direction = np.asarray(geometry.direction)[:, list(self.axes)] * signs
        rows = [(float(row[0]), float(row[1]), float(row[2])) for row in direction + 0.0]  # + 0.0: no -0.0
        a, b, c = self.axes
        return Geometry(
            shape=(shape[a], shape[b], shape[c]),
            spacing=(geometry.spacing[a], geometry.spacing[b], geometry.spacing[c]),
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=(rows[0], rows[1], rows[2]),
        )


def canonical_orientation(image: Image) -> tuple[Image, Reorientation]:
    """Bring an image's axes into the one order and direction that is used inside.

    Axes are permuted and flipped so that d runs towards the head (+z), h to the back (+y) and w to the left (+x), as
    nearly as it can be. Images without a position in the patient (``physical`` False) stay as they are. A single slice
    (one axis of length 1) gets that axis as d: an axial one is turned within its plane like a volume's, a coronal or
    sagittal one so that h runs to the feet and w to the left or to the back, as such slices are looked at.

    Args:
        image: ``(C, D, H, W)``.

    Returns:
        The image (a view), and the `Reorientation` whose ``inverse`` brings arrays ``(C, D, H, W)`` back.
    """
    change = _towards_canonical(image)
    if change.is_identity:
        return image, change
    turned = replace(image, array=change.forward(image.array), geometry=change.forward_geometry(image.geometry))
    return turned, change


def _towards_canonical(image: Image) -> Reorientation:
    if not image.physical:
        return Reorientation()
    cosines = np.asarray(image.geometry.direction)  # [row, axis]
    along = np.abs(cosines)
    orders, rows, signs = list(permutations((0, 1, 2))), _ROW_OF_AXIS, (1, 1, 1)
    thin = [axis for axis, length in enumerate(image.geometry.shape) if length == 1]
    if image.is_2d or len(thin) == 1:
        orders = [order for order in orders if order[0] == thin[0]]
        normal = int(np.argmax(along[:, thin[0]]))
        if normal != _ROW_OF_AXIS[0]:
            rows, signs = (normal, _ROW_OF_AXIS[0], 1 - normal), (1, -1, 1)
    best = orders[0]  # the stored order wins ties
    for order in orders[1:]:
        if _fit(along, order, rows) > _fit(along, best, rows) + _NEAR:
            best = order
    flips = [bool(signs[n] * cosines[rows[n], axis] < 0) for n, axis in enumerate(best)]
    return Reorientation((best[0], best[1], best[2]), (flips[0], flips[1], flips[2]))


def _fit(along: np.ndarray, order: tuple[int, ...], rows: tuple[int, ...]) -> float:
    return float(sum(along[rows[n], axis] for n, axis in enumerate(order)))
