"""napari's writers: labels and images on the grid they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.utils.notifications import show_warning

from meduniseg_core import __version__
from meduniseg_core.dicom_objects import LabelledSeries, dicom_format_of, dicom_writers
from meduniseg_core.dicom_objects.labelled import AlgorithmType
from meduniseg_core.former_results import EARLIER, FILES, identities, read_record, refuse_input
from meduniseg_core.images import Image, write_image, write_labels
from meduniseg_core.outputs import write_result
from meduniseg_core.provenance import RESULT, image_entries, label_provenance, provenance_path, recorded_task
from napari_meduniseg import _unsaved
from napari_meduniseg._belonging import Placed, labels_image
from napari_meduniseg._layer_input import as_image, snapshot_layers
from napari_meduniseg._layers import CHANNEL, METADATA_KEY, Origin, checksum, classes_shown
from napari_meduniseg._links import image_of

_BY_HAND = "labels made by hand"


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write for *File > Save*, as `write_on_grid` does. What the user must know appears as napari's warning."""
    layers = layers_around(data)
    saved = next((layer for layer in layers or () if layer.data is data), None)
    image = None if layers is None or saved is None else image_of(saved, layers)
    written, notes = write_on_grid(path, data, attributes, layers, image)
    if isinstance(saved, Labels):
        _unsaved.saved(saved)
    for note in notes:
        show_warning(note)
    return written


def write_on_grid(
    path: str,
    data: Any,
    attributes: dict[str, Any],
    layers: Sequence[Layer] | None = None,
    prefer: ImageLayer | None = None,
) -> tuple[list[str], tuple[str, ...]]:
    """Write a labels layer on the stored grid of its image. Returns the files written, and what the user must know.

    Names and colours go into a JSON file beside it, so that it opens as labels again; with a result's provenance, and
    whether it was edited since. ``layers`` and ``prefer`` are those of `labels_image`. Raises UsageError where this
    would overwrite the image itself, or a JSON file that is not ours; BadInputError where it would overwrite the result
    of another image, even if a dialog allowed it: that result may be newer.
    """
    placed = labels_image(np.asarray(data), attributes, layers, prefer)
    target = Path(path)
    inputs = identities(() if placed.like is None else placed.like.files)
    about = _about(np.asarray(data), attributes, placed)
    beside = provenance_path(target)
    files = _files(placed, about, target)
    if not about["model"] and beside.exists() and recorded_task(read_record(beside)) is None and len(files) == 1:
        refuse_input(target, inputs)
        files[target.name](target)
        return [path], (*placed.notes, f"Names and colours were not kept: {beside.name} is there and not ours.")
    # the dialog has asked about the labels
    write_result(beside, about, files, RESULT, inputs=inputs, agreed=[target.name])
    return [path, *(str(target.with_name(name)) for name in files if name != target.name), str(beside)], placed.notes


def _files(placed: Placed, about: dict[str, Any], target: Path) -> dict[str, Callable[[Path], object]]:
    """What is written: the label map, or the DICOM objects of the ending."""
    names = {int(label): str(name) for label, name in about["classes"].items()}
    colours = {int(label): (colour[0], colour[1], colour[2]) for label, colour in about["colours"].items()}
    if dicom_format_of(target) is None:
        return {
            target.name: lambda file: write_labels(placed.labels, file, like=placed.like, names=names, colours=colours)
        }
    model = str(about["model"] or "")
    by_hand: AlgorithmType = "SEMIAUTOMATIC" if model else "MANUAL"
    labelled = LabelledSeries(
        labels=placed.labels,
        image=placed.labels if placed.like is None else placed.like,
        classes=names,
        colours=colours,
        task=str(about["task"]),
        algorithm=model,
        algorithm_sha256=about["model_sha256"],
        version=str(about.get("version") or __version__),
        algorithm_type=by_hand if about["edited"] or not model else "AUTOMATIC",
    )
    return dicom_writers([labelled], target)


def _about(data: np.ndarray, attributes: dict[str, Any], placed: Placed) -> dict[str, Any]:
    """What the JSON beside the labels says: a result's provenance, or that they were made by hand.

    Names and colours.
    """
    record = (attributes.get("metadata") or {}).get(METADATA_KEY)
    about: dict[str, Any] = {"task": _BY_HAND, "model": "", "model_sha256": None, "edited": True}
    about |= _image_entries(placed.like, record)
    if isinstance(record, dict) and "provenance" in record:
        about = {**record["provenance"], "edited": checksum(data) != record["crc"]}
    elif isinstance(record, Origin) and record.image.source is not None:
        content = dict(read_record(provenance_path(record.image.source)))
        if label_provenance(record.image.source) is not None:
            same = np.array_equal(placed.labels.array, record.image.array)
            kept = {key: value for key, value in content.items() if key not in (FILES, EARLIER)}
            about = {**kept, "edited": bool(content.get("edited")) or not same}
    names, colours = classes_shown(data, attributes)
    about["classes"] = {str(label): name for label, name in names.items()}
    about["colours"] = {str(label): list(colour) for label, colour in colours.items()}
    return about


def _image_entries(like: Image | None, record: object) -> dict[str, str]:
    """What the JSON says about the image of handmade labels.

    Its identity is given only where the whole image is known.
    """
    if like is None:
        return {"image": ""}
    whole = CHANNEL not in like.meta and not (isinstance(record, Origin) and record.is_labels)
    return image_entries(like) if whole else {"image": like.name}


def write_image_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer with its geometry: the file's own, if the layer has not moved since it was read."""
    keys = ("name", "scale", "translate", "rotate", "shear", "affine", "units", "metadata", "rgb")
    given = {key: attributes[key] for key in keys if attributes.get(key) is not None}
    (taken,) = snapshot_layers((ImageLayer(data, contrast_limits=(0, 1), **given),))
    write_image(as_image(taken), path)
    for finding in taken.outline.findings:
        if not taken.known:
            show_warning(finding.text)
    return [path]


def layers_around(data: Any) -> Sequence[Layer] | None:
    """The layers of the viewer that shows these labels; None where there is none, as in scripts."""
    viewer = napari.current_viewer()
    if viewer is None or all(layer.data is not data for layer in viewer.layers):
        return None
    return list(viewer.layers)
