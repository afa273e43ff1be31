"""Which image a layer belongs to: the one home of that link, for results, label files and labels that the user made.

A link that was found, or set by the user, is kept beside the layers and not in their metadata, which a duplicate takes
along. Where layers lie is the matter of `_belonging`. Knows no Qt.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from meduniseg_core.errors import UsageError
from meduniseg_core.images import Image
from meduniseg_core.provenance import read_provenance
from napari_meduniseg._belonging import image_layer_of, image_layers_at
from napari_meduniseg._layer_input import file_of
from napari_meduniseg._layers import METADATA_KEY, Origin, is_derived

_links: WeakKeyDictionary[Layer, tuple[weakref.ref[ImageLayer], Path]] = WeakKeyDictionary()
"""For each layer the image that it is tied to, and that image's file."""


def bind(layer: Layer, image: ImageLayer) -> None:
    """Tie the layer to this image."""
    _links[layer] = weakref.ref(image), _file(image)


def is_tied(layer: Layer) -> bool:
    """Whether the layer was tied to an image, which may be closed by now."""
    return layer in _links


def known_image(layer: Layer, image: ImageLayer | None) -> ImageLayer:
    """The image that was found for ``layer``; UsageError where it is not known."""
    if image is None:
        raise UsageError(f"The image of {layer.name} is not known; choose it under 'Image'.")
    return image


def image_of(layer: Layer, layers: Iterable[Layer]) -> ImageLayer | None:
    """Find the image among ``layers`` that ``layer`` belongs to; None where that is unclear.

    A tie comes first; then the image that a result or a label file names, if it lies there; then the place, if it holds
    a single image. A tie outlives its image: once that is closed, only the same file, opened again, takes its place,
    and never another image that happens to lie there.
    """
    layers = list(layers)
    bound = _links.get(layer)
    if bound is not None:
        linked, file = bound[0](), bound[1]
        if linked is not None:
            if any(linked is other for other in layers):
                return linked
            file = _file(linked)
        layers = [other for other in layers if isinstance(other, ImageLayer) and _file(other) == file]
    found = _found(layer, layers)
    if found is not None:
        bind(layer, found)
    return found


def images_among(layers: Iterable[Layer]) -> list[ImageLayer]:
    """The layers that are images, without probabilities and uncertainty."""
    return [layer for layer in layers if isinstance(layer, ImageLayer) and not is_derived(layer)]


def labels_among(layers: Iterable[Layer]) -> list[Labels]:
    """The layers that are label maps, without maps of differences."""
    return [layer for layer in layers if isinstance(layer, Labels) and not is_derived(layer)]


def are_siblings(one: ImageLayer, other: ImageLayer) -> bool:
    """Whether both are the same layer, or channels of one file."""
    if one is other:
        return True
    records = [layer.metadata.get(METADATA_KEY) for layer in (one, other)]
    sources = [record.image.source for record in records if isinstance(record, Origin)]
    return len(sources) == 2 and sources[0] is not None and sources[0] == sources[1]


def lies_on(layer: Layer, image: ImageLayer) -> bool:
    """Whether a layer has the voxels of an image, at the same places in the world."""
    return bool(image_layers_at(layer, (image,)))


def tells_its_image(layer: Layer) -> bool:
    """Whether the layer is a result, or comes from a file: then its image is never guessed."""
    return METADATA_KEY in layer.metadata


def _found(layer: Layer, layers: list[Layer]) -> ImageLayer | None:
    record = layer.metadata.get(METADATA_KEY)
    like = record.get("like") if isinstance(record, dict) else None
    name = like.name if isinstance(like, Image) else _image_named_by(record)
    if name:
        layers = [other for other in layers if isinstance(other, ImageLayer) and _file_name(other) == name]
    if isinstance(layer, Labels):
        return image_layer_of(layer, layers)
    here = image_layers_at(layer, layers)
    return here[0] if here and all(are_siblings(here[0], other) for other in here) else None


def _image_named_by(record: object) -> str:
    """The file name of the image that a label file was made from, according to the JSON beside it; else empty."""
    if not isinstance(record, Origin) or record.image.source is None:
        return ""
    said = read_provenance(Path(record.image.source))
    return "" if said is None else said.image


def _file_name(image: ImageLayer) -> str:
    record = image.metadata.get(METADATA_KEY)
    return record.image.name if isinstance(record, Origin) else file_of(image).name


def _file(image: ImageLayer) -> Path:
    record = image.metadata.get(METADATA_KEY)
    source = record.image.source if isinstance(record, Origin) else None
    return file_of(image) if source is None else Path(source)
