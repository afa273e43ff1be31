"""The results of a segmentation as layers beside their image. Knows no Qt."""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.images.palette import Colour, free_colours
from napari_meduniseg._instance_boxes import box_layer, follow_boxes, former_boxes
from napari_meduniseg._layers import METADATA_KEY, probability_layers, result_layer, shown_colour
from napari_meduniseg._links import bind, image_of, labels_among
from napari_meduniseg._segmentation_job import Outcome, SegmentationJob
from napari_meduniseg._views import slice_axis


def add_results(job: SegmentationJob, outcome: Outcome, viewer: ViewerModel) -> list[Labels]:
    """Add the results beside the layer they were computed from, wherever it is now.

    Boxes replace those of the task's former run. Nothing where it is gone, or was given other voxels.
    """
    layer = job.choice.layers[0]
    if layer not in viewer.layers or layer.data is not job.snapshots[0].data:
        return []
    added = []
    for task, result in outcome.results.items():
        name = f"{layer.name}: {task}"
        for data, options, _ in probability_layers(result, outcome.taken.change, layer, name):
            bind(viewer.add_image(data, **options), layer)
        colours = free_colours(len(result.class_names), _colours_beside(task, layer, viewer))
        data, options, _ = result_layer(result, outcome.taken.change, layer, name, colours)
        added.append(viewer.add_labels(data, **options))
        bind(added[-1], layer)
        boxes = box_layer(result, outcome.taken.change, layer, name, colours, slice_axis(layer, viewer))
        if boxes is not None:
            for former in former_boxes(task, viewer.layers):
                if image_of(former, viewer.layers) is layer:
                    viewer.layers.remove(former)
            shapes = viewer.add_shapes(boxes[0], **boxes[1])
            bind(shapes, layer)
            follow_boxes(shapes, viewer)
    return added


def _colours_beside(task: str, image: ImageLayer, viewer: ViewerModel) -> set[Colour]:
    """The colours of the classes that other tasks have found in the image: they are seen together."""
    found: set[Colour] = set()
    for labels in labels_among(viewer.layers):
        record = labels.metadata.get(METADATA_KEY)
        said = record.get("provenance", {}) if isinstance(record, dict) else {}
        if said.get("task") in (None, task) or image_of(labels, viewer.layers) is not image:
            continue
        shown = (shown_colour(labels, label) for label in range(1, len(said.get("classes", {})) + 1))
        found |= {colour for colour in shown if colour is not None}
    return found
