"""The lesions of a result as boxes: a Shapes layer, a rectangle on each slice that a box reaches. Knows no Qt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from napari.layers import Layer, Shapes

from meduniseg_core.images import Reorientation
from meduniseg_core.images.palette import Colour
from meduniseg_core.inference import Segmentation
from napari_meduniseg._layers import BOXES_OF, METADATA_KEY, LayerData, copied_placement

_MOST = 1000
"""Rectangles of one layer; napari draws each one by itself, and gets slow."""
_THIN = 400
"""How many times an edge's width is the image's longest side."""


def box_layer(
    result: Segmentation, change: Reorientation, like: Layer, name: str, colours: Sequence[Colour]
) -> LayerData | None:
    """Make the layer of a result's boxes, the surest first; None where boxes were not asked for.

    In a volume a box is a rectangle on each of its slices. Each carries the class, the score and the size as features,
    and its score as text. Boxes that would exceed 1,000 rectangles are left out, which the layer's name says.
    """
    if result.instances is None:
        return None
    flat = like.ndim == 2
    rectangles: list[np.ndarray] = []
    of: list[int] = []
    shown = 0
    for number, one in enumerate(result.instances):
        depths, rows, columns = change.forward_box(one.box, result.labels.geometry.shape)
        places = range(*depths)
        if rectangles and len(rectangles) + len(places) > _MOST:
            break
        shown += 1
        # a voxel reaches half its size beyond its centre
        (top, bottom), (left, right) = ((low - 0.5, high - 0.5) for low, high in (rows, columns))
        corners = np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
        for place in places:
            rectangles.append(corners if flat else np.insert(corners, 0, place, axis=1))
            of.append(number)
    listed = [result.instances[number] for number in of]
    edges = [np.append(np.asarray(colours[one.label - 1]) / 255, 1.0) for one in listed]
    left_out = len(result.instances) - shown
    options: dict[str, Any] = {
        **copied_placement(like),
        "name": f"{name}: boxes" + (f" (without the {left_out} least sure)" if left_out else ""),
        "ndim": like.ndim,
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": np.array(edges) if edges else "white",
        "edge_width": max(result.labels.geometry.shape) / _THIN,
        "features": {
            "lesion": [number + 1 for number in of],
            "class": [one.name for one in listed],
            "score": [round(one.score, 3) for one in listed],
            "size": [round(one.size, 4) for one in listed],
            "unit": [one.unit for one in listed],
        },
        "metadata": {METADATA_KEY: {BOXES_OF: result.task, "drawn": [np.array(one) for one in rectangles]}},
    }
    if listed:
        options["text"] = {"string": "{score:.2f}", "size": 10, "color": "white", "anchor": "upper_left"}
    return rectangles, options, "shapes"


def former_boxes(task: str, layers: Iterable[Layer]) -> list[Shapes]:
    """The layers of a task's boxes, without those that the user has changed since."""
    found = []
    for layer in layers:
        record = layer.metadata.get(METADATA_KEY)
        if isinstance(layer, Shapes) and isinstance(record, dict) and record.get(BOXES_OF) == task:
            now, drawn = layer.data, record["drawn"]
            if len(now) == len(drawn) and all(map(np.array_equal, now, drawn)):
                found.append(layer)
    return found
