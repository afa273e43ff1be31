"""Where a layer's voxels lie on the disk's own grid, and which image a labels layer belongs to.

The viewer shows a volume along its own axes, so a layer's scale and translation know nothing of the rotation of its
file. That is kept with the layers that were read (:class:`Origin`). A layer that came about otherwise (*New labels
layer*, a duplicate, another plugin's result) and lies exactly on such an image has that image's grid.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from napari.layers import Layer

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, Reorientation
from meduniseg_core.images.grid import TOLERANCE, same_grid
from meduniseg_core.images.upright import MASK_KEY
from napari_meduniseg._layers import (
    METADATA_KEY,
    Origin,
    as_volume,
    geometry_of,
    is_derived,
    is_length,
    living_origins,
    world_in_mm,
)


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid that voxels are stored on, and how the layer shows them turned. ``image``: as it was read, if it was."""

    geometry: Geometry
    physical: bool
    change: Reorientation
    image: Image | None = None

    def stored(self, shown: np.ndarray) -> np.ndarray:
        """What a layer shows, ``(D, H, W)`` or ``(H, W)``, as ``(1, D, H, W)`` in the order of this grid."""
        return np.ascontiguousarray(self.change.inverse(as_volume(shown)))


@dataclass(frozen=True, eq=False)
class Placed:
    """Labels on their grid, the image they belong to where that was read from a file, and what the user must know."""

    labels: Image
    like: Image | None
    notes: tuple[str, ...] = ()


def place_of(layer: Layer) -> Geometry:
    """Where the voxels lie as the layer shows them, in mm (one unit is taken as 1 mm where it is none of length)."""
    shape = layer.data[0].shape if getattr(layer, "multiscale", False) else layer.data.shape
    return geometry_of(world_in_mm(layer), tuple(int(length) for length in shape[: layer.ndim]))


def in_one_place(one: Layer, other: Layer) -> bool:
    """Whether two layers of two or three dimensions have the same voxels at the same places."""
    return all(layer.ndim in (2, 3) for layer in (one, other)) and _same_place(place_of(one), place_of(other))


def grid_of(layer: ImageLayer, layers: Iterable[Layer] | None = None) -> Grid:
    """The grid of an image layer: that of the file it was read from, or of the one read image it lies exactly on;
    else what its transforms say."""
    place = place_of(layer)
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, Origin) and _same_place(_shown(record), place):
        return _grid(record)
    found = _distinct([_grid(origin) for origin in _origins_at(place, layers)])
    return found[0] if len(found) == 1 else Grid(place, layer.ndim == 3 or has_length(layer), Reorientation())


def is_as_read(layer: ImageLayer, origin: Origin) -> bool:
    """Whether the layer still shows what was read, where it was read to lie."""
    return layer.data is origin.shown and _same_place(_shown(origin), place_of(layer))


def image_layers_at(layer: Layer, layers: Iterable[Layer]) -> list[ImageLayer]:
    """The image layers among ``layers`` that ``layer`` lies on exactly; probabilities and the like are none."""
    return _images_at(place_of(layer), layers) if layer.ndim in (2, 3) else []


def image_layer_of(labels: LabelsLayer, layers: Sequence[Layer], prefer: ImageLayer | None = None) -> ImageLayer | None:
    """The image layer among ``layers`` that the labels belong to; None where it cannot be told.

    Known of results and of labels that were read beside their image; of others it is the one image they lie on. Of
    several images in one place it is ``prefer``, else the one after which the labels are named (napari does that), else
    the one there is besides further channels of the same file.
    """
    record = labels.metadata.get(METADATA_KEY)
    if isinstance(record, dict) and "shown_by" in record:
        shown_by = record["shown_by"]()
        if shown_by is not None and shown_by in layers:
            return shown_by
    found = image_layers_at(labels, layers)
    if len(found) > 1 and prefer in found:
        return prefer
    if len(found) > 1:
        found = _named_after([(other, other.name) for other in found], labels.name) or found
    files = {_file(other) for other in found}
    return found[0] if len(found) == 1 or (len(files) == 1 and None not in files) else None


def labels_image(
    layer_data: np.ndarray,
    attributes: dict[str, Any],
    layers: Sequence[Layer] | None = None,
    prefer: ImageLayer | None = None,
) -> Placed:
    """A labels layer for writing: on the stored grid of the image it belongs to, where that can be told.

    ``attributes`` are those napari hands to writers; ``layers`` the viewer's, where they are known (else every image
    that was read and is still there is looked at), ``prefer`` the image that is meant where several lie in one place.
    BadInputError where the layer has more than three dimensions.
    """
    array = np.asarray(layer_data)
    name = str(attributes.get("name", "the layer"))
    probe = _probe(array, attributes, name)
    place = geometry_of(world_in_mm(probe), array.shape)
    own = _own_grid(attributes.get("metadata") or {}, place)
    if own is not None:
        return _placed(array, own)
    found = _grids_at(place, layers, prefer, name)
    if len(found) == 1:
        return _placed(array, found[0])
    notes = [*_unit_note(probe, name), _lost(name, place, found)]
    return Placed(Image(as_volume(array), place, array.ndim == 3 or has_length(probe)), None, tuple(notes))


def plain_image(array: np.ndarray, attributes: dict[str, Any], name: str = "the layer") -> Image:
    """An array that napari places by ``attributes`` (scale, translate, rotate, shear, affine, units), as an image."""
    probe = _probe(array, attributes, name)
    place = geometry_of(world_in_mm(probe), array.shape)
    return Image(as_volume(array), place, array.ndim == 3 or has_length(probe))


def source_of(metadata: dict[str, Any]) -> tuple[Image, Reorientation] | None:
    """The image that a layer with this metadata shows or was made for, and how it was turned; None where unknown."""
    record = metadata.get(METADATA_KEY)
    if isinstance(record, Origin):
        return record.image, record.change
    if isinstance(record, dict) and isinstance(record.get("like"), Image):
        return record["like"], record["change"]
    return None


def made_for(layer: LabelsLayer) -> Grid | None:
    """The grid of the image that a result was computed for, as long as it lies where it lay then; None for others."""
    if not isinstance(layer.metadata.get(METADATA_KEY), dict) or layer.ndim not in (2, 3):
        return None
    return _own_grid(layer.metadata, place_of(layer))


def has_length(layer: Layer) -> bool:
    """Whether the layer's units are all of length (pixels are not)."""
    return all(is_length(unit) for unit in layer.units)


def _placed(array: np.ndarray, grid: Grid) -> Placed:
    stored = grid.stored(array)
    if grid.image is None:
        return Placed(Image(stored, grid.geometry, grid.physical), None)
    meta = {key: value for key, value in grid.image.meta.items() if key not in ("colour", "dtype", MASK_KEY)}
    return Placed(replace(grid.image, array=stored, meta=meta), grid.image)


def _own_grid(metadata: dict[str, Any], place: Geometry) -> Grid | None:
    """What the layer's own record says, as long as the layer lies where it lay then."""
    record = metadata.get(METADATA_KEY)
    if isinstance(record, Origin):
        return _grid(record) if _same_place(_shown(record), place) else None
    if isinstance(record, dict) and isinstance(record.get("like"), Image):
        like: Image = record["like"]
        if _same_place(record["place"], place):
            return Grid(like.geometry, like.physical, record["change"], like)
    return None


def _grids_at(place: Geometry, layers: Sequence[Layer] | None, prefer: ImageLayer | None, name: str) -> list[Grid]:
    """The distinct grids of the images in this place; one where it can be told which image is meant."""
    if layers is None:
        origins = _origins_at(place, None)
        chosen = _named_after([(origin, origin.image.name) for origin in origins], name) or origins
        return _distinct([_grid(origin) for origin in chosen])
    there = _images_at(place, layers)
    if prefer in there:
        there = [layer for layer in there if layer is prefer]
    found = _named_after([(layer, layer.name) for layer in there], name) or there
    return _distinct([grid_of(layer, layers) for layer in found])


def _images_at(place: Geometry, layers: Iterable[Layer]) -> list[ImageLayer]:
    images = [layer for layer in layers if isinstance(layer, ImageLayer) and layer.ndim in (2, 3)]
    return [layer for layer in images if not is_derived(layer) and _same_place(place_of(layer), place)]


def _origins_at(place: Geometry, layers: Iterable[Layer] | None) -> list[Origin]:
    if layers is not None:
        records = [layer.metadata.get(METADATA_KEY) for layer in layers if isinstance(layer, ImageLayer)]
        return [record for record in records if isinstance(record, Origin) and _same_place(_shown(record), place)]
    found = [origin for origin in living_origins() if _same_place(_shown(origin), place)]
    if len(_distinct([_grid(origin) for origin in found])) > 1:
        del found
        gc.collect()  # layers that were closed lie in cycles: they are no images that are open
        found = [origin for origin in living_origins() if _same_place(_shown(origin), place)]
    return found


def _named_after(items: Sequence[tuple[Any, str]], name: str) -> list[Any]:
    """Those of whose names ``name`` is made (napari calls new labels *IMAGE - Labels*): by the longest such name."""
    fitting = [(item, base) for item, base in items if base and name.startswith(base)]
    longest = max((len(base) for _, base in fitting), default=0)
    return [item for item, base in fitting if len(base) == longest]


def _grid(origin: Origin) -> Grid:
    return Grid(origin.image.geometry, origin.image.physical, origin.change, origin.image)


def _shown(origin: Origin) -> Geometry:
    size = origin.affine.shape[0] - 1
    return geometry_of(origin.affine, tuple(int(length) for length in origin.shown.shape[:size]))


def _distinct(grids: Sequence[Grid]) -> list[Grid]:
    """One of each; channels of one file are one grid."""
    found: list[Grid] = []
    for grid in grids:
        if not any(_alike(grid, known) for known in found):
            found.append(grid)
    return found


def _alike(first: Grid, second: Grid) -> bool:
    if first.change != second.change or not _same_place(first.geometry, second.geometry):
        return False
    return _turned_in_file(first) == _turned_in_file(second)


def _turned_in_file(grid: Grid) -> dict[str, str]:
    """How a photograph lies in its file (EXIF): two of one size may differ in that alone."""
    meta = {} if grid.physical or grid.image is None else grid.image.meta
    return {key: str(value) for key, value in meta.items() if "orientation" in key}


def _same_place(first: Geometry, second: Geometry) -> bool:
    """Whether every voxel of both lies in one place (`images.grid`); a single slice's thickness counts, too."""
    return same_grid(first, second) and np.allclose(first.spacing, second.spacing, rtol=TOLERANCE)


def _probe(array: np.ndarray, attributes: dict[str, Any], name: str) -> LabelsLayer:
    """A layer of one voxel with the transforms of the one that ``attributes`` describe."""
    if array.ndim not in (2, 3) or array.size == 0:
        raise BadInputError(f"{name} has {array.ndim} dimensions; choose a layer with two or three (and some voxels).")
    keys = ("scale", "translate", "rotate", "shear", "affine", "units")
    given = {key: attributes[key] for key in keys if attributes.get(key) is not None}
    return LabelsLayer(np.zeros((1,) * array.ndim, np.uint8), **given)


def _unit_note(probe: Layer, name: str) -> list[str]:
    if probe.ndim == 2 or has_length(probe):
        return []
    return [f"The layer {name} has no unit of length: its scale is taken as mm."]


def _lost(name: str, place: Geometry, found: Sequence[Grid]) -> str:
    spacing = " x ".join(f"{value:.4g}" for value in place.spacing)
    where = ", ".join(f"{value:.4g}" for value in place.origin)
    written = (
        f"they were written where the layer itself lies (voxels of {spacing} from ({where}), no rotation but its own)"
    )
    untold = "so the labels' image cannot be told"
    if len(found) > 1:
        names = ", ".join(sorted({grid.image.name for grid in found if grid.image is not None}))
        return f"{name} lies on several images with different grids ({names}), {untold}; {written}."
    return f"{name} lies exactly on no image that is open, {untold}; {written}."


def _file(layer: ImageLayer) -> object:
    record = layer.metadata.get(METADATA_KEY)
    return record.image.source if isinstance(record, Origin) else None
