"""Images from layers, in two steps: a snapshot in the GUI's thread, then reading the voxels in another one.

A layer may be lazy (dask, zarr). Reading its voxels then reads whole files, and the viewer would freeze meanwhile.
Faults in a layer's structure are found at once, faults in its voxels only when they are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Finding, Image, Reorientation, check_channels, stack_channels
from napari_meduniseg._belonging import grid_of, has_length, is_as_read
from napari_meduniseg._layers import METADATA_KEY, Origin, as_volume

_OF_THE_GRID = ("orientation_unknown", "spacing_assumed", "header_mended")
_ASSUMED = (
    "The layer {} has no unit of length: its scale is taken as mm, and its axes to run to the head, the back and the "
    "patient's left."
)


@dataclass(frozen=True, eq=False)
class LayerSnapshot:
    """What a layer shows, without its voxels.

    ``outline`` is the image on its grid. If it is ``known`` (the layer still shows what was read from a file), it is
    that image; otherwise its voxels are all zero and take no memory. ``data`` is the layer's own array, perhaps lazy.
    ``read_from`` is the file that another reader opened the layer from.
    """

    name: str
    data: Any
    rgb: bool
    outline: Image
    known: bool
    change: Reorientation
    read_from: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) of the image, which may be turned relative to the layer."""
        return self.outline.geometry.shape


@dataclass(frozen=True)
class LayerImage:
    """An image read from layers. Its findings say what had to be assumed, and how it was turned for the viewer."""

    image: Image
    change: Reorientation


def snapshot_layers(layers: Sequence[ImageLayer]) -> tuple[LayerSnapshot, ...]:
    """Take a snapshot of one layer, or of one per channel, for `read_layers`. It is quick, for the GUI's thread.

    Raises BadInputError for layers that cannot be segmented: several scales, more than three dimensions, no voxels,
    stacks of colour images, channels on different grids.
    """
    snapshots = tuple(_snapshot_layer(layer) for layer in layers)
    if len(snapshots) > 1:
        check_channels([item.outline for item in snapshots])
    return snapshots


def read_layers(snapshots: Sequence[LayerSnapshot]) -> LayerImage:
    """Read the voxels, which is slow for lazy layers: for a worker's thread.

    Raises BadInputError for NaN and infinite values.
    """
    images = [_read(item) for item in snapshots]
    image = images[0] if len(images) == 1 else stack_channels(images)
    return LayerImage(image, snapshots[0].change)


def to_image(array: np.ndarray, change: Reorientation) -> np.ndarray:
    """Bring what lies on a layer's grid, (H, W) or (D, H, W), to its image's axes: (D, H, W)."""
    return np.ascontiguousarray(change.inverse(as_volume(array))[0])


def same_images(some: Sequence[LayerSnapshot], others: Sequence[LayerSnapshot]) -> bool:
    """Whether both snapshots are of the same arrays at the same places (the values are not compared)."""
    return len(some) == len(others) and all(
        one.data is other.data
        and one.known == other.known
        and one.outline.physical == other.outline.physical
        and one.outline.geometry == other.outline.geometry
        for one, other in zip(some, others, strict=True)
    )


def _snapshot_layer(layer: ImageLayer) -> LayerSnapshot:
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, Origin) and is_as_read(layer, record):
        return LayerSnapshot(layer.name, layer.data, layer.rgb, record.image, True, record.change)
    shape = _checked_shape(layer)
    grid = grid_of(layer)
    meta: dict[str, Any] = {"colour": "rgb"} if layer.rgb else {}
    findings: tuple[Finding, ...] = ()
    if grid.image is not None:  # the voxels are others; what its reader found out about the grid holds
        findings = tuple(finding for finding in grid.image.findings if finding.code in _OF_THE_GRID)
        meta |= {key: grid.image.meta[key] for key in ("orientation_known",) if key in grid.image.meta}
    elif len(shape) == 3 and not has_length(layer):
        findings = (Finding("spacing_assumed", _ASSUMED.format(layer.name)),)
    nothing = np.broadcast_to(np.zeros((), np.uint8), (3 if layer.rgb else 1, *grid.geometry.shape))
    outline = Image(nothing, grid.geometry, grid.physical, file_of(layer), meta, findings)
    read_from = None if not layer.source.path else Path(layer.source.path)
    return LayerSnapshot(layer.name, layer.data, layer.rgb, outline, False, grid.change, read_from)


def file_of(layer: ImageLayer) -> Path:
    """The file that napari read the layer from, else the layer's name. It names the image from now on."""
    path = layer.source.path
    return Path(path) if path else Path(re.sub(r"[^\w.\-]+", "_", layer.name))


def _checked_shape(layer: ImageLayer) -> tuple[int, ...]:
    """The lengths of the layer's spatial axes; BadInputError where it cannot be an image."""
    if layer.multiscale:
        raise BadInputError(
            f"The layer {layer.name} is multiscale; open one of its scales as a layer of its own and choose that."
        )
    whole = tuple(int(length) for length in layer.data.shape)
    shape = whole[:-1] if layer.rgb else whole
    if math.prod(whole) == 0:
        raise BadInputError(f"The layer {layer.name} is empty; choose one with an image.")
    if layer.rgb and len(shape) != 2:
        raise BadInputError(f"The layer {layer.name} is a stack of colour images; open its images one by one.")
    if len(shape) not in (2, 3):
        raise BadInputError(
            f"The layer {layer.name} has {len(shape)} dimensions; split it into images of two or three dimensions "
            "(right click on the layer: Split Stack)."
        )
    if isinstance(layer.data.dtype, np.dtype):  # other kinds of arrays have types of their own: see when it is read
        _check_numbers(layer.name, layer.data.dtype)
    return shape


def _read(item: LayerSnapshot) -> Image:
    image = as_image(item)
    if not item.known and image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise BadInputError(f"The layer {item.name} holds NaN or infinite values; replace them first.")
    return image


def as_image(item: LayerSnapshot) -> Image:
    """One layer's voxels on their grid, whatever their values. Raises BadInputError where they are not numbers."""
    if item.known:
        return item.outline
    array = np.asarray(item.data)
    _check_numbers(item.name, array.dtype)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if item.rgb:
        volume = np.moveaxis(array[..., :3], -1, 0)[:, None]
        if volume.dtype.kind == "f":
            volume = np.rint(255 * np.clip(volume, 0, 1)).astype(np.uint8)
    else:
        volume = as_volume(array)
    return item.outline.with_array(np.ascontiguousarray(item.change.inverse(volume)))


def _check_numbers(name: str, dtype: np.dtype) -> None:
    if dtype.kind not in "iufb":
        raise BadInputError(f"The layer {name} holds no numbers ({dtype}); choose an image.")
