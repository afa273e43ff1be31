"""A record of how one image was prepared, detailed enough to undo it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.images import Image, Reorientation
from meduniseg_core.images.boxes import Box, box_shape
from meduniseg_core.images.geometry import Geometry, Shape3
from meduniseg_core.preprocessing.resample import Rules


@dataclass(frozen=True)
class SpatialTransformRecord:
    """The way from an image's grid to the network's and back.

    The image's grid is turned by ``reorientation`` to the ``canonical`` grid, cropped to ``box``, and resampled to the
    network's ``grid``. ``physical``, ``source`` and ``meta`` are the image's; the label map that goes back takes them
    over.
    """

    geometry: Geometry
    physical: bool
    source: Path | None
    meta: Mapping[str, Any]
    reorientation: Reorientation
    canonical: Geometry
    box: Box
    grid: Geometry
    label_rules: Rules

    @classmethod
    def of(
        cls,
        image: Image,
        reorientation: Reorientation,
        canonical: Geometry,
        box: Box,
        shape: Shape3,
        label_rules: Rules,
    ) -> SpatialTransformRecord:
        """Record what was done to an image.

        Args:
            image: The image as it was read.
            reorientation: From its axes to the network's.
            canonical: Its grid along those axes.
            box: The part of that grid that was kept.
            shape: The shape that the box was resampled to.
            label_rules: How labels are resampled.

        Returns:
            The record.
        """
        return cls(
            geometry=image.geometry,
            physical=image.physical,
            source=image.source,
            meta=image.meta,
            reorientation=reorientation,
            canonical=canonical,
            box=box,
            grid=grid_over_box(canonical, box, shape),
            label_rules=label_rules,
        )

    @property
    def name(self) -> str:
        """The image's file name, or "the image"."""
        return self.source.name if self.source is not None else "the image"

    @property
    def outline(self) -> Image:
        """The image's grid without its voxels (all zero, without using memory): where labels must lie."""
        nothing = np.broadcast_to(np.zeros((), np.uint8), (1, *self.geometry.shape))
        return Image(nothing, self.geometry, self.physical, self.source, self.meta)

    @property
    def box_shape(self) -> Shape3:
        """The size of the box on the canonical grid."""
        return box_shape(self.box)

    @property
    def unchanged(self) -> bool:
        """Whether nothing was resampled."""
        return self.box_shape == self.grid.shape


@dataclass(frozen=True)
class Preprocessed:
    """``data`` is float32 (C, d, h, w) on ``trace.grid``, normalised; ``trace`` leads back to the image."""

    data: np.ndarray
    trace: SpatialTransformRecord


def grid_over_box(canonical: Geometry, box: Box, shape: Shape3) -> Geometry:
    """Make the grid that covers exactly the extent of a box.

    Args:
        canonical: The grid that the box lies on.
        box: The box.
        shape: Voxels of the new grid along (D, H, W).

    Returns:
        The grid.
    """
    size = box_shape(box)
    spacing = [canonical.spacing[a] * size[a] / shape[a] for a in range(3)]
    # the centre of the first voxel: half a new voxel inside the corner of the box
    first = [box[a][0] - 0.5 + 0.5 * size[a] / shape[a] for a in range(3)]
    origin = canonical.affine @ np.array([*first, 1.0])
    return Geometry(
        shape=shape,
        spacing=(spacing[0], spacing[1], spacing[2]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=canonical.direction,
    )
