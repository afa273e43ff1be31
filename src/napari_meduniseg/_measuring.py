"""What the user draws to measure: a shapes layer of an image, whose shapes the core measures. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images.measuring import Measurement, Shape, Unit, measure
from napari_meduniseg._layers import METADATA_KEY, copied_placement, unit_of, world_in_mm
from napari_meduniseg._links import bind, image_of

_MARK = "measurements"  # in the layer's metadata
_COLOUR = "#ffd24a"  # seen on black and on white
_THIN = 400  # of these lines, side by side, would fill the image
_KINDS: dict[str, Shape] = {
    "line": "line",
    "path": "line",
    "polygon": "outline",
    "rectangle": "outline",
    "ellipse": "ellipse",
}


@dataclass(frozen=True)
class Measured:
    """One shape: what was measured, or why it cannot be, and where it lies (in the layer's own coordinates)."""

    found: Measurement | None
    fault: str
    where: str
    centre: tuple[float, ...]

    @property
    def text(self) -> str:
        """The value, as the image shows it."""
        return "?" if self.found is None else self.found.text


def is_measuring(layer: Layer) -> bool:
    """Whether a layer holds measurements."""
    return isinstance(layer, Shapes) and layer.metadata.get(METADATA_KEY) == _MARK


def measurements_of(image: ImageLayer, viewer: ViewerModel) -> Shapes | None:
    """The layer of an image's measurements; None where nothing was drawn yet."""
    found = (layer for layer in viewer.layers if is_measuring(layer) and image_of(layer, viewer.layers) is image)
    return next(found, None)


def add_measurements(image: ImageLayer, viewer: ViewerModel) -> Shapes:
    """Add an empty layer to draw on, in place of the image."""
    layer = Shapes(
        ndim=image.ndim,
        name=f"Measurements of {image.name}",
        edge_color=_COLOUR,
        face_color="transparent",
        edge_width=max(image.data.shape[: image.ndim]) / _THIN,
        features={"measure": np.array([], dtype=object)},
        text={"string": "{measure}", "color": _COLOUR, "size": 12, "anchor": "lower_left"},
        opacity=1.0,
        metadata={METADATA_KEY: _MARK},
        **copied_placement(image),
    )
    viewer.add_layer(layer)
    bind(layer, image)
    return layer


def measure_shapes(layer: Shapes) -> list[Measured]:
    """Measure all shapes of a layer, in the order in which they were drawn."""
    world = world_in_mm(layer)
    unit: Unit = "mm" if unit_of(layer) == "mm" else "px"
    return [
        _measured(np.asarray(points, float), _KINDS[str(kind)], world, unit)
        for points, kind in zip(layer.data, layer.shape_type, strict=True)
    ]


def show_values(layer: Shapes, rows: list[Measured]) -> None:
    """Write the values beside the shapes."""
    layer.features = {"measure": np.array([row.text for row in rows], dtype=object)}
    layer.refresh_text()


def _measured(points: np.ndarray, kind: Shape, world: np.ndarray, unit: Unit) -> Measured:
    size = points.shape[1]
    centre = tuple(float(value) for value in points.mean(axis=0))
    try:
        found, fault = measure(points @ world[:size, :size].T, kind, unit), ""
    except MedUniSegError as error:
        found, fault = None, str(error)
    return Measured(found, fault, _where(points), centre)


def _where(points: np.ndarray) -> str:
    """The plane that a shape lies in, as the viewer counts slices; empty for pictures."""
    if points.shape[1] < 3:
        return ""
    spread = np.ptp(points, axis=0)
    axis = int(np.argmin(spread))
    name = ("axial", "coronal", "sagittal")[axis - (points.shape[1] - 3)]
    return f"{name} {round(float(points[0, axis]))}" if spread[axis] < 1 else "several slices"
