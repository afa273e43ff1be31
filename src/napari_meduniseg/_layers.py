"""How images of the core become napari layers, and where layers lie. Only this module and `_layer_input` do this.

Images are shown in canonical orientation (d to the head, h to the back, w to the left), so that every slice in the
viewer is a plane of voxels; scale and translation are in mm. The image as it was read stays in the layer's metadata and
is what gets segmented: results and files lie on its own grid. A grid that is rotated against the scanner's axes is
shown along its own axes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap

from meduniseg_core.editing import unique_labels
from meduniseg_core.images import Geometry, Image, Reorientation, canonical_orientation
from meduniseg_core.images.display_range import display_range
from meduniseg_core.images.palette import Colour, class_colour

if TYPE_CHECKING:  # the reader, which every image that is opened asks, needs no network
    from meduniseg_core.inference import Segmentation

LayerData = tuple[Any, dict[str, Any], str]

METADATA_KEY = "meduniseg"
DERIVED = "derived"
BOXES_OF = "boxes_of"
"""The key of a record of boxes: the task whose lesions they show."""
CHANNEL = "channel_of_file"  # in `Image.meta`: the image is one channel of what its file holds
_NO_CHECKSUM = -1  # that no labels have
_MOST_COLOURS = 2000  # labels of a layer (instances, say) whose colours are written down


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a layer comes from: the image as it was read, and the layer's array and placement (mm) at that time."""

    image: Image
    change: Reorientation
    shown: np.ndarray
    affine: np.ndarray
    is_labels: bool = False

    def __post_init__(self) -> None:
        _LIVING.add(self)


_LIVING: WeakSet[Origin] = WeakSet()


def living_origins() -> list[Origin]:
    """The origins of all images that were read and whose layers still exist, in any viewer.

    Label files are not included.
    """
    return [origin for origin in _LIVING if not origin.is_labels]


def image_layers(image: Image) -> list[LayerData]:
    """Make the layers that show an image: one RGB layer for a photograph, otherwise one per channel."""
    canonical, change = canonical_orientation(image)
    name = image.name
    options = _placement(canonical)
    if image.meta.get("colour") == "rgb" and image.channels == 3 and image.is_2d:
        data = np.moveaxis(canonical.array[:, 0], 0, -1)
        return [
            (data, {**options, "name": name, "rgb": True, **origin_metadata(image, change, data, options)}, "image")
        ]
    layers: list[LayerData] = []
    for channel in range(image.channels):
        part = image.array[channel : channel + 1]
        one = image if image.channels == 1 else image.with_array(part, **{CHANNEL: channel})
        data = canonical.array[channel, 0] if image.is_2d else canonical.array[channel]
        own = {**options, "name": name if image.channels == 1 else f"{name} [{channel}]"}
        shown = display_range(one)
        if shown is not None:
            own["contrast_limits"] = shown
        layers.append((data, {**own, **origin_metadata(one, change, data, options)}, "image"))
    return layers


def label_layer(labels: Image, classes: dict[int, str], colours: dict[int, tuple[int, int, int]]) -> LayerData:
    """Make the layer that shows a label map read from a file."""
    canonical, change = canonical_orientation(labels)
    data = np.array(canonical.array[0, 0] if labels.is_2d else canonical.array[0])
    options = {**_placement(canonical), "name": labels.name, **class_options(classes, colours)}
    metadata = origin_metadata(labels, change, data, options, is_labels=True)
    return data, {**options, **metadata}, "labels"


def result_layer(
    result: Segmentation, change: Reorientation, like: Layer, name: str, colours: Sequence[Colour] | None = None
) -> LayerData:
    """Make a layer of a result's labels that lies exactly on the layer ``like``; ``colours`` if not the usual ones."""
    data = _shown(result.labels, change)
    classes = dict(enumerate(result.class_names, start=1))
    options = {
        **copied_placement(like),
        "name": name,
        **class_options(classes, dict(enumerate(colours or result.colours, start=1))),
    }
    known = {"provenance": result.provenance(), "predicted": result.labels, "crc": checksum(data)}
    return data, {**options, **_result_metadata(result.image, change, like, data.shape, known)}, "labels"


def stored_result_layer(
    labels: Image, image: Image, name: str, provenance: dict[str, Any], *, edited: bool
) -> Callable[[Layer], LayerData]:
    """Prepare the layer of a result that lies on the disk, in a worker's thread.

    Returns a function for the window's thread: it makes the layer for the layer of the result's image, as
    `result_layer` does. If the result was ``edited``, the prediction is no longer known, and the layer counts as
    edited.
    """
    _, change = canonical_orientation(image)
    data = _shown(labels, change)
    classes = {int(label): str(text) for label, text in provenance["classes"].items()}
    colours = {int(label): tuple(colour) for label, colour in provenance.get("colours", {}).items()}
    known: dict[str, Any] = {"provenance": provenance, "crc": _NO_CHECKSUM}
    if not edited:
        known = {"provenance": provenance, "predicted": labels, "crc": checksum(data)}

    def made(like: Layer) -> LayerData:
        options = {**copied_placement(like), "name": name, **class_options(classes, colours)}
        return data, {**options, **_result_metadata(image, change, like, data.shape, known)}, "labels"

    return made


def _shown(labels: Image, change: Reorientation) -> np.ndarray:
    canonical = change.forward(labels.array)
    return np.array(canonical[0, 0] if labels.is_2d else canonical[0])


def _result_metadata(
    image: Image, change: Reorientation, like: Layer, shape: tuple[int, ...], known: dict[str, Any]
) -> dict[str, Any]:
    place = {"like": image, "change": change, "shown_by": ref(like), "place": geometry_of(world_in_mm(like), shape)}
    return {"metadata": {METADATA_KEY: {**known, **place}}}


def probability_layers(result: Segmentation, change: Reorientation, like: Layer, name: str) -> list[LayerData]:
    """Make one image layer per class with its probability, and one with the uncertainty (1 - largest probability)."""
    if result.probabilities is None:
        return []
    turned = change.forward(result.probabilities.array)
    turned = turned[:, 0] if result.labels.is_2d else turned
    shared = {**copied_placement(like), "blending": "additive", "contrast_limits": (0.0, 1.0), "visible": False}
    layers: list[LayerData] = [
        (turned[label], {**shared, "name": f"{name}: probability of {text}", "colormap": "magma"}, "image")
        for label, text in enumerate(result.class_names, start=1)
    ]
    uncertainty = 1 - turned.max(axis=0)
    layers.append((uncertainty, {**shared, "name": f"{name}: uncertainty", "colormap": "inferno"}, "image"))
    for _, options, _ in layers:
        options["metadata"] = {METADATA_KEY: DERIVED}
    return layers


def checksum(labels: np.ndarray) -> int:
    """A checksum of labels, to tell whether they were changed."""
    return zlib.crc32(np.ascontiguousarray(labels).data)


def is_derived(layer: Layer) -> bool:
    """Whether a layer shows probabilities, uncertainty or a result's boxes: no image, no labels, and not drawn by the
    user."""
    record = layer.metadata.get(METADATA_KEY)
    return bool(record == DERIVED) or (isinstance(record, dict) and BOXES_OF in record)


def spacing_of(layer: Layer) -> tuple[float, ...]:
    """The size of a voxel along the layer's axes, in mm (as it stands where the layer has no unit of length)."""
    return tuple(float(value) for value in np.linalg.norm(world_in_mm(layer)[:-1, :-1], axis=0))


def unit_of(layer: Layer) -> str:
    """The unit of `spacing_of`: mm, or px where the layer has no unit of length (photographs)."""
    return "mm" if all(is_length(unit) for unit in layer.units) else "px"


def copied_placement(layer: Layer) -> dict[str, Any]:
    """Everything that places ``layer``. The colours of an RGB layer are not an axis."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def as_volume(array: np.ndarray) -> np.ndarray:
    """Turn (H, W) or (D, H, W) into (1, D, H, W)."""
    return array[None, None] if array.ndim == 2 else array[None]


def _placement(canonical: Image) -> dict[str, Any]:
    geometry = canonical.geometry
    flat = canonical.is_2d
    spacing, origin = geometry.spacing, geometry.origin[::-1]
    unit = "mm" if canonical.physical else "pixel"
    options: dict[str, Any] = {
        "scale": spacing[1:] if flat else spacing,
        "units": (unit,) * (2 if flat else 3),
        "axis_labels": ("y", "x") if flat else ("z", "y", "x"),
    }
    if canonical.physical:
        options["translate"] = origin[1:] if flat else origin
    return options


def origin_metadata(
    image: Image, change: Reorientation, data: np.ndarray, options: dict[str, Any], is_labels: bool = False
) -> dict[str, dict[str, Origin]]:
    """Make napari's ``metadata`` for a layer that shows ``image`` as ``data``, placed by ``options``."""
    size = len(options["scale"])
    affine = np.eye(size + 1)
    affine[:size, :size] = np.diag(options["scale"])
    affine[:size, size] = options.get("translate", (0.0,) * size)
    return {"metadata": {METADATA_KEY: Origin(image, change, data, affine, is_labels)}}


def classes_shown(
    data: np.ndarray, attributes: dict[str, Any]
) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """The names of a labels layer's labels, and the colours of those that are named or occur.

    ``attributes`` are those that napari passes to writers.
    """
    features = attributes.get("features")
    names: dict[int, str] = {}
    if features is not None and "index" in features and "name" in features:
        names = {int(i): str(n) for i, n in zip(features["index"], features["name"], strict=True) if int(i) > 0}
    there = sorted({*names, *(label for label in unique_labels(data) if label > 0)})
    colormap = attributes.get("colormap")
    if colormap is None or not there or len(there) > _MOST_COLOURS:
        return names, {label: class_colour(label) for label in names}
    shown = np.asarray(colormap.map(np.asarray(there, dtype=np.int64)), dtype=float).reshape(len(there), -1)
    rounded = [(round(255 * c[0]), round(255 * c[1]), round(255 * c[2])) for c in shown]
    return names, dict(zip(there, rounded, strict=True))


def class_options(classes: dict[int, str], colours: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
    """The layer options for class names in the status bar and fixed colours.

    Labels without a name get a colour, too.
    """
    known = sorted({*classes, *colours})
    table: dict[int | None, np.ndarray] = {
        label: np.array((*(c / 255 for c in colours.get(label) or class_colour(label)), 1.0)) for label in known
    }
    colormap = DirectLabelColormap(color_dict={**table, 0: np.zeros(4), None: np.ones(4)})
    features = {"index": [0, *classes], "name": ["background", *classes.values()]}
    return {"colormap": colormap, "features": features}


def shown_colour(layer: Labels, label: int) -> Colour | None:
    """The colour that a label is shown in; None where it has none."""
    shown = layer.get_color(label)
    return None if shown is None else (round(255 * shown[0]), round(255 * shown[1]), round(255 * shown[2]))


def world_of(layer: Layer) -> np.ndarray:
    """The homogeneous matrix from index to world, found through public API alone by mapping the unit vectors."""
    size = layer.ndim
    origin = np.asarray(layer.data_to_world((0.0,) * size))
    affine = np.eye(size + 1)
    affine[:size, size] = origin
    for axis in range(size):
        affine[:size, axis] = np.asarray(layer.data_to_world(tuple(np.eye(size)[axis]))) - origin
    return affine


def world_in_mm(layer: Layer) -> np.ndarray:
    """`world_of` with units of length converted to mm; other units (pixels) are taken as they are."""
    world = world_of(layer)
    factors = [millimetres(unit) if is_length(unit) else 1.0 for unit in layer.units]
    world[:-1] *= np.asarray(factors)[:, None]
    return world


def geometry_of(world: np.ndarray, shape: tuple[int, ...]) -> Geometry:
    """Make the core's grid of a world matrix: napari's world is ordered (z, y, x), the core's (x, y, z)."""
    if len(shape) == 2:
        whole = np.eye(4)
        whole[1:3, 1:3], whole[1:3, 3] = world[:2, :2], world[:2, 2]
        world, shape = whole, (1, *shape)
    affine = np.eye(4)
    affine[:3] = world[[2, 1, 0]]
    return Geometry.from_affine(affine, (shape[0], shape[1], shape[2]))


def is_length(unit: Any) -> bool:
    """Whether a layer's unit is one of length (pixels are not)."""
    return bool(unit.is_compatible_with("mm"))


def millimetres(unit: Any) -> float:
    """How many mm one of a unit of length is."""
    return float((1 * unit).to("mm").magnitude)
