"""The planes of the current volume that the viewer does not show, as pictures. Knows no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.images.planes import Picture, coloured, laid_over, plane_of
from napari_meduniseg._layers import spacing_of
from napari_meduniseg._views import PatientSides, View, sides_of

_COLOURS = 256
_NAMES: tuple[View, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a volume.

    ``picture`` has the volume's own rows and columns, which run along ``axes``; in the view rows run upwards unless the
    plane is axial, as in the viewer.
    """

    name: View
    axis: int
    index: int
    picture: Picture
    spacing: tuple[float, float]
    sides: PatientSides | None

    @property
    def axes(self) -> tuple[int, int]:
        """The volume's axes along rows and columns."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return rows, columns

    @property
    def upwards(self) -> bool:
        """Whether rows run upwards."""
        return self.axis != 0


def is_volume(image: ImageLayer | None) -> bool:
    """Whether an image has planes to be shown."""
    return image is not None and image.ndim == 3 and not image.multiscale


def index_of(image: ImageLayer, place: Sequence[float]) -> tuple[int, ...]:
    """The voxel at a place of the world; beyond the volume, the nearest one along each axis."""
    found = np.rint(np.asarray(image.world_to_data(tuple(place)))[-3:]).astype(int)
    return tuple(int(value) for value in np.clip(found, 0, np.asarray(image.data.shape[:3]) - 1))


def draw_plane(image: ImageLayer, labels: Sequence[Labels], axis: int, index: int) -> Plane:
    """Draw one plane of a volume with its visible labels, in the colours of the viewer."""
    data = image.data
    spacing = spacing_of(image)
    if image.rgb:
        picture = np.stack([plane_of(data[..., part], axis, index) for part in range(3)], axis=-1)
        picture = picture if picture.dtype == np.uint8 else (255 * np.clip(picture, 0, 1)).astype(np.uint8)
    else:
        table = image.colormap.map(np.linspace(0, 1, _COLOURS) ** image.gamma)[:, :3]
        picture = coloured(plane_of(data, axis, index), tuple(image.contrast_limits), table)
    for layer in labels:
        if layer.visible and layer.data.shape == data.shape[:3]:
            ids = plane_of(layer.data, axis, index)
            picture = laid_over(picture, ids, layer.colormap.map(ids), layer.opacity, outline=bool(layer.contour))
    rows, columns = (one for one in range(3) if one != axis)
    sides = sides_of(image, rows, columns, down=axis == 0, right=True)
    return Plane(_NAMES[axis], axis, index, picture, (spacing[rows], spacing[columns]), sides)
