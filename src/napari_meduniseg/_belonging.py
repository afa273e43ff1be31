"""Where a layer's voxels lie on the file's own grid, and which image a labels layer belongs to.

The viewer shows a volume along its own axes, so a layer's scale and translation do not include the rotation of its
file. Layers that were read keep it (`Origin`). A layer that was made in another way (*New labels layer*, a duplicate,
another plugin's result) and lies exactly on such an image has that image's grid.
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
    """The grid that voxels are stored on, and how the layer turns them to show them.

    ``image`` is the image as it was read, for layers that were read.
    """

    geometry: Geometry
    physical: bool
    change: Reorientation
    image: Image | None = None

    def stored(self, shown: np.ndarray) -> np.ndarray:
        """Bring what a layer shows, ``(D, H, W)`` or ``(H, W)``, into this grid's order, ``(1, D, H, W)``."""
        return np.ascontiguousarray(self.change.inverse(as_volume(shown)))


@dataclass(frozen=True, eq=False)
class Placed:
    """Labels on their grid, their image where it was read from a file, and what the user must know."""

    labels: Image
    like: Image | None
    notes: tuple[str, ...] = ()


def place_of(layer: Layer) -> Geometry:
    """Find where the layer shows its voxels, in mm (a unit that is not a length counts as 1 mm)."""
    shape = layer.data[0].shape if getattr(layer, "multiscale", False) else layer.data.shape
    return geometry_of(world_in_mm(layer), tuple(int(length) for length in shape[: layer.ndim]))


def in_one_place(one: Layer, other: Layer) -> bool:
    """Whether two layers of two or three dimensions have the same voxels at the same places."""
    return all(layer.ndim in (2, 3) for layer in (one, other)) and _same_place(place_of(one), place_of(other))


def grid_of(layer: ImageLayer, layers: Iterable[Layer] | None = None) -> Grid:
    """Find the grid of an image layer.

    It is the grid of the file it was read from, or of the one image that was read and lies exactly in its place;
    otherwise it follows from the layer's transforms.
    """
    place = place_of(layer)
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, Origin) and _same_place(_shown(record), place):
        return _grid(record)
    found = _distinct([_grid(origin) for origin in _origins_at(place, layers)])
    return found[0] if len(found) == 1 else Grid(place, layer.ndim == 3 or has_length(layer), Reorientation())


def is_as_read(layer: ImageLayer, origin: Origin) -> bool:
    """Whether the layer still shows what was read, in its original place."""
    return layer.data is origin.shown and _same_place(_shown(origin), place_of(layer))


def image_layers_at(layer: Layer, layers: Iterable[Layer]) -> list[ImageLayer]:
    """List the image layers among ``layers`` that ``layer`` lies on exactly, without probabilities and the like.

    Shapes and points have no voxels: they lie on none.
    """
    has_voxels = isinstance(layer, ImageLayer | LabelsLayer) and layer.ndim in (2, 3)
    return _images_at(place_of(layer), layers) if has_voxels else []


def image_layer_of(labels: LabelsLayer, layers: Sequence[Layer], prefer: ImageLayer | None = None) -> ImageLayer | None:
    """Find the image layer among ``layers`` that the labels belong to; None where that is unclear.

    For results, and for labels that were read together with their image, it is known. Other labels belong to the one
    image they lie on. Of several images in one place it is ``prefer``; else the one whose name is in the labels' name
    (napari names new labels so); else the only one, if all others are channels of its file.
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
    """Prepare a labels layer for writing: on the stored grid of the image it belongs to, where that is known.

    ``attributes`` are what napari passes to writers. ``layers`` are the viewer's layers, where they are known;
    otherwise every image that was read and still exists is considered. ``prefer`` is the image to take where several
    lie in one place. Raises BadInputError where the layer has more than three dimensions.
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


def source_of(metadata: dict[str, Any]) -> tuple[Image, Reorientation] | None:
    """Find the image that a layer with this metadata shows or was made for, and how it was turned.

    None where unknown.
    """
    record = metadata.get(METADATA_KEY)
    if isinstance(record, Origin):
        return record.image, record.change
    if isinstance(record, dict) and isinstance(record.get("like"), Image):
        return record["like"], record["change"]
    return None


def made_for(layer: LabelsLayer) -> Grid | None:
    """The grid of the image that a result was computed for, while the result has not moved; None for other layers."""
    if not isinstance(layer.metadata.get(METADATA_KEY), dict) or layer.ndim not in (2, 3):
        return None
    return _own_grid(layer.metadata, place_of(layer))


def has_length(layer: Layer) -> bool:
    """Whether all of the layer's units are lengths (pixels are not)."""
    return all(is_length(unit) for unit in layer.units)


def _placed(array: np.ndarray, grid: Grid) -> Placed:
    stored = grid.stored(array)
    if grid.image is None:
        return Placed(Image(stored, grid.geometry, grid.physical), None)
    meta = {key: value for key, value in grid.image.meta.items() if key not in ("colour", "dtype", MASK_KEY)}
    return Placed(replace(grid.image, array=stored, meta=meta), grid.image)


def _own_grid(metadata: dict[str, Any], place: Geometry) -> Grid | None:
    """The grid in the layer's own record, while the layer has not moved."""
    record = metadata.get(METADATA_KEY)
    if isinstance(record, Origin):
        return _grid(record) if _same_place(_shown(record), place) else None
    if isinstance(record, dict) and isinstance(record.get("like"), Image):
        like: Image = record["like"]
        if _same_place(record["place"], place):
            return Grid(like.geometry, like.physical, record["change"], like)
    return None


def _grids_at(place: Geometry, layers: Sequence[Layer] | None, prefer: ImageLayer | None, name: str) -> list[Grid]:
    """The distinct grids of the images in this place; a single one where it is clear which image is meant."""
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
        gc.collect()  # layers that were closed lie in cycles: they are not open images
        found = [origin for origin in living_origins() if _same_place(_shown(origin), place)]
    return found


def _named_after(items: Sequence[tuple[Any, str]], name: str) -> list[Any]:
    """The items whose names ``name`` begins with (napari names new labels *IMAGE - Labels*).

    Only those with the longest name.
    """
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
    """How a photograph is rotated in its file (EXIF): two of one size may differ in that alone."""
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
