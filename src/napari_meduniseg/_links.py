"""Which image a layer belongs to: the one home of that link, for results, label files and labels the user made.

Knows no Qt. Links are kept beside the layers, not in their metadata: a layer that is duplicated takes its metadata
along, and napari writes them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from meduniseg_core.images import Image
from meduniseg_core.provenance import read_provenance
from napari_meduniseg._layers import METADATA_KEY, Origin, is_derived, is_length, millimetres, world_of
from napari_meduniseg._taking import file_of

_CLOSE = 0.05  # of a voxel: how far the corners of two layers on one grid may lie apart

_links: WeakKeyDictionary[Layer, weakref.ref[ImageLayer]] = WeakKeyDictionary()


def bind(layer: Layer, image: ImageLayer) -> None:
    """From now on the layer belongs to this image."""
    _links[layer] = weakref.ref(image)


def image_of(layer: Layer, layers: Iterable[Layer]) -> ImageLayer | None:
    """The one of ``layers`` that ``layer`` belongs to; None where that cannot be told.

    What was bound is believed; then what a result or a label file says about its image; then the grid, where only one
    image lies on it.
    """
    images = images_among(layers)
    bound = _links.get(layer)
    linked = None if bound is None else bound()
    if linked is not None and any(linked is image for image in images):
        return linked
    found = _found(layer, images)
    if found is not None:
        bind(layer, found)
    return found


def images_among(layers: Iterable[Layer]) -> list[ImageLayer]:
    """The layers that are images, and show no probabilities or uncertainty."""
    return [layer for layer in layers if isinstance(layer, ImageLayer) and not is_derived(layer)]


def labels_among(layers: Iterable[Layer]) -> list[Labels]:
    """The layers that are label maps, and show no difference of two."""
    return [layer for layer in layers if isinstance(layer, Labels) and not is_derived(layer)]


def are_siblings(one: ImageLayer, other: ImageLayer) -> bool:
    """Whether both are channels of one image (or one layer)."""
    if one is other:
        return True
    records = [layer.metadata.get(METADATA_KEY) for layer in (one, other)]
    sources = [record.image.source for record in records if isinstance(record, Origin)]
    return len(sources) == 2 and sources[0] is not None and sources[0] == sources[1] and same_place(one, other)


def same_place(one: Layer, other: Layer) -> bool:
    """Whether two layers have the same voxels at the same places of the world."""
    shape = _shape(one)
    if shape != _shape(other) or one.ndim != other.ndim:
        return False
    first, second = _millimetre_world(one), _millimetre_world(other)
    corners = np.array(np.meshgrid(*([0.0, size - 1.0] for size in shape))).reshape(len(shape), -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    apart = np.abs((first - second) @ corners)[:-1].max()
    smallest = float(np.linalg.norm(first[:-1, :-1], axis=0).min())
    return bool(apart <= _CLOSE * smallest)


def _found(layer: Layer, images: list[ImageLayer]) -> ImageLayer | None:
    record = layer.metadata.get(METADATA_KEY)
    like = record.get("like") if isinstance(record, dict) else None
    if isinstance(like, Image):
        shown = _showing(like, images)
        if shown is not None:
            return shown
    here = [image for image in images if same_place(layer, image)]
    name = like.name if isinstance(like, Image) else _image_named_by(record)
    if name:
        here = [image for image in here if _file_name(image) == name]
    return here[0] if here and all(are_siblings(here[0], image) for image in here) else None


def _showing(like: Image, images: list[ImageLayer]) -> ImageLayer | None:
    """The layer that was read as the image ``like``, or from its file."""
    known = [
        (image, record.image) for image in images if isinstance(record := image.metadata.get(METADATA_KEY), Origin)
    ]
    for image, shown in known:
        if shown is like:
            return image
    if like.source is None:
        return None
    return next((image for image, shown in known if shown.source == like.source), None)


def _image_named_by(record: object) -> str:
    """The file name of the image that a label file was made from, by the JSON beside it; else empty."""
    if not isinstance(record, Origin) or record.image.source is None:
        return ""
    said = read_provenance(Path(record.image.source))
    return "" if said is None else said.image


def _file_name(image: ImageLayer) -> str:
    record = image.metadata.get(METADATA_KEY)
    return record.image.name if isinstance(record, Origin) else file_of(image).name


def _shape(layer: Layer) -> tuple[int, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(size) for size in data.shape[: layer.ndim])  # an RGB layer's colours are no axis


def _millimetre_world(layer: Layer) -> np.ndarray:
    world = world_of(layer)
    factors = [millimetres(unit) if is_length(unit) else 1.0 for unit in layer.units]
    world[:-1] *= np.asarray(factors)[:, None]
    return world
