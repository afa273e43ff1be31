"""The lesions of a result as boxes: a Shapes layer, a rectangle on each slice that a box reaches. Knows no Qt."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer, Shapes

from meduniseg_core.images import Reorientation
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.palette import Colour
from meduniseg_core.inference import Segmentation
from napari_meduniseg._layers import BOXES_OF, METADATA_KEY, LayerData, copied_placement
from napari_meduniseg._views import slice_axis

_MOST = 1000
"""Rectangles of one layer; napari draws each one by itself, and gets slow."""
_THIN = 400
"""How many times an edge's width is the image's longest side."""
_DRAWN = "drawn"


class DrawnBoxes:
    """The boxes of a layer, as rectangles on the slices that the viewer shows: along whatever axis it slices.

    napari shows a shape on the one slice in which all of it lies. So every box has a rectangle for each of its slices,
    and when the viewer slices along another axis all are drawn anew; not where the user has changed them since.
    """

    def __init__(self, boxes: Sequence[Box], features: Sequence[dict[str, Any]], edges: Sequence[np.ndarray]) -> None:
        self._boxes, self._features, self._edges = list(boxes), list(features), list(edges)
        self._layer: weakref.ref[Shapes] | None = None
        self._viewer: weakref.ref[ViewerModel] | None = None
        self._axis = 0
        self.rectangles: list[np.ndarray] = []

    def options(self, axis: int, ndim: int) -> dict[str, Any]:
        """Draw for slices along an axis of the image's three; what a Shapes layer is told beside the rectangles."""
        self._axis = axis
        drawn = [(number, one) for number, box in enumerate(self._boxes) for one in _rectangles(box, axis, ndim)]
        self.rectangles = [one for _, one in drawn]
        of = [number for number, _ in drawn]
        keys = self._features[0] if self._features else dict.fromkeys(("lesion", "class", "score", "size", "unit"))
        return {
            "edge_color": np.array([self._edges[number] for number in of]) if of else "white",
            "features": {key: [self._features[number][key] for number in of] for key in keys},
        }

    def follow(self, layer: Shapes, viewer: ViewerModel) -> None:
        """Draw the layer anew whenever the viewer slices along another axis."""
        self._layer, self._viewer = weakref.ref(layer), weakref.ref(viewer)
        viewer.dims.events.order.connect(self._turn)  # napari holds methods weakly

    def unchanged(self, layer: Shapes) -> bool:
        """Whether the layer shows what was drawn."""
        now = layer.data
        return len(now) == len(self.rectangles) and all(map(np.array_equal, now, self.rectangles))

    def _turn(self, _event: Any = None) -> None:
        layer = None if self._layer is None else self._layer()
        viewer = None if self._viewer is None else self._viewer()
        if layer is None or viewer is None or layer not in viewer.layers or layer.ndim < 3 or not self._boxes:
            return
        axis = slice_axis(layer, viewer)
        if axis == self._axis or not 0 <= axis < layer.ndim or not self.unchanged(layer):
            return
        options, width, faces = self.options(axis, layer.ndim), layer.edge_width[0], layer.face_color[0]
        layer.data = self.rectangles
        # more rectangles than before would have napari's own width and faces
        layer.edge_width, layer.face_color = width, faces
        layer.features, layer.edge_color = options["features"], options["edge_color"]


def box_layer(
    result: Segmentation, change: Reorientation, like: Layer, name: str, colours: Sequence[Colour], axis: int = 0
) -> LayerData | None:
    """Make the layer of a result's boxes, the surest first; None where boxes were not asked for.

    In a volume a box is a rectangle on each of its slices along ``axis``; :func:`follow_boxes` keeps them on those that
    are shown. Each carries the class, the score and the size as features, and its score as text. Boxes that would
    exceed 1,000 rectangles along any axis are left out, which the layer's name says.
    """
    if result.instances is None:
        return None
    boxes: list[Box] = []
    counts = np.zeros(3, dtype=int)
    for one in result.instances:
        box = change.forward_box(one.box, result.labels.geometry.shape)
        counts += [high - low for low, high in box]
        if boxes and counts[: 1 if like.ndim == 2 else 3].max() > _MOST:
            break
        boxes.append(box)
    listed = result.instances[: len(boxes)]
    features = [
        {
            "lesion": number,
            "class": one.name,
            "score": round(one.score, 3),
            "size": round(one.size, 4),
            "unit": one.unit,
        }
        for number, one in enumerate(listed, start=1)
    ]
    edges = [np.append(np.asarray(colours[one.label - 1]) / 255, 1.0) for one in listed]
    left_out = len(result.instances) - len(boxes)
    drawn = DrawnBoxes(boxes, features, edges)
    options: dict[str, Any] = {
        **copied_placement(like),
        **drawn.options(axis if 0 <= axis < like.ndim else 0, like.ndim),
        "name": f"{name}: boxes" + (f" (without the {left_out} least sure)" if left_out else ""),
        "ndim": like.ndim,
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_width": max(result.labels.geometry.shape) / _THIN,
        "metadata": {METADATA_KEY: {BOXES_OF: result.task, _DRAWN: drawn}},
    }
    if boxes:
        options["text"] = {"string": "{score:.2f}", "size": 10, "color": "white", "anchor": "upper_left"}
    return drawn.rectangles, options, "shapes"


def follow_boxes(layer: Shapes, viewer: ViewerModel) -> None:
    """Keep a layer of boxes on the slices that the viewer shows."""
    layer.metadata[METADATA_KEY][_DRAWN].follow(layer, viewer)


def former_boxes(task: str, layers: Iterable[Layer]) -> list[Shapes]:
    """The layers of a task's boxes, without those that the user has changed since."""
    found = []
    for layer in layers:
        record = layer.metadata.get(METADATA_KEY)
        ours = isinstance(layer, Shapes) and isinstance(record, dict) and record.get(BOXES_OF) == task
        if ours and record[_DRAWN].unchanged(layer):
            found.append(layer)
    return found


def _rectangles(box: Box, axis: int, ndim: int) -> list[npt.NDArray[np.float64]]:
    """Corners (4, ndim) of a box on each of its slices along an axis."""
    rows, columns = (one for at, one in enumerate(box) if at != (0 if ndim == 2 else axis))
    # a voxel reaches half its size beyond its centre
    (top, bottom), (left, right) = ((low - 0.5, high - 0.5) for low, high in (rows, columns))
    corners = np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    return [corners] if ndim == 2 else [np.insert(corners, axis, place, axis=1) for place in range(*box[axis])]
