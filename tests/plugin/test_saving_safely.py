"""Labels saved in the viewer: never over their image, nor over a JSON that is not ours; what is written is listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layer_images import layer_image
from napari.components import ViewerModel
from napari.layers import Layer
from small_inputs import write_volume

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.former_results import standing
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Segmentation
from meduniseg_core.provenance import RESULT
from napari_meduniseg._layers import image_layers, label_layer, result_layer
from napari_meduniseg._reader import read
from napari_meduniseg._writer import write_labels_layer


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "scan.nii.gz")


def result_of(scan: Path) -> Layer:
    """A result of ours on the scan, as a layer."""
    ((data, options, _),) = read(str(scan))
    layer = ViewerModel().add_image(data, **options)
    taken = layer_image([layer])
    labels = np.zeros(taken.image.array.shape, np.uint8)
    labels[0, 2:5, 4:9, 4:9] = 1
    result = Segmentation(
        labels=taken.image.with_array(labels), image=taken.image, task="organ", modality="mri", class_names=("liver",),
        model="tiny", model_sha256="ab" * 32, version="0.1.0", seconds=1.0, execution="cpu",
    )  # fmt: skip
    return Layer.create(*result_layer(result, taken.change, layer, "organ"))


def save(layer: Layer, path: Path) -> list[str]:
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_labels_layer(str(path), data, attributes)


def painted(scan: Path) -> Layer:
    """Labels without provenance, painted on the scan."""
    ((data, options, _),) = read(str(scan))
    options = {key: options[key] for key in ("scale", "translate", "metadata") if key in options}
    return Layer.create(np.ones(data.shape, np.uint8), options, "labels")


@pytest.mark.parametrize("make", [result_of, painted])
def test_labels_are_not_saved_over_their_image(scan: Path, make) -> None:
    before = scan.read_bytes()
    (scan.parent / "link.nii.gz").symlink_to(scan)
    for path in (scan, scan.parent / "link.nii.gz"):
        with pytest.raises(UsageError, match="is an input"):
            save(make(scan), path)
    assert scan.read_bytes() == before and (scan.parent / "link.nii.gz").is_symlink()


def test_a_json_that_is_not_ours_is_kept_and_a_label_file_is_replaced_as_the_dialog_asked(scan: Path) -> None:
    target = scan.parent / "labels.nii.gz"
    target.write_bytes(b"an older file: the dialog has asked")
    (scan.parent / "labels.json").write_text('{"my": "notes"}')
    with pytest.raises(UsageError, match=r"labels\.json exists already"):
        save(result_of(scan), target)
    assert target.read_bytes().startswith(b"an older") and "notes" in (scan.parent / "labels.json").read_text()
    (scan.parent / "labels.json").unlink()
    assert save(result_of(scan), target) == [str(target), str(scan.parent / "labels.json")]
    assert read_labels(target).geometry.is_close(read_image(scan).geometry)


def test_what_is_saved_is_listed_and_counts_as_edited_where_it_was(scan: Path) -> None:
    target, record = scan.parent / "labels.nii.gz", scan.parent / "labels.json"
    layer = result_of(scan)
    save(layer, target)
    assert json.loads(record.read_text())["files"] == {target.name: sha256_of(target)}
    assert standing(record, [target.name], RESULT).edited() == []
    layer.data[0, 0, 0] = 1
    save(layer, target)
    assert json.loads(record.read_text())["files"] == {target.name: sha256_of(target)}
    assert standing(record, [target.name], RESULT).edited() == [target.name]


@pytest.mark.parametrize("make", [result_of, painted])
def test_another_image_s_result_is_kept_whatever_the_dialog_asked(scan: Path, make) -> None:
    target, record = scan.parent / "labels.nii.gz", scan.parent / "labels.json"
    (scan.parent / "other").mkdir()
    other = write_volume(scan.parent / "other" / "scan.nii.gz", seed=5)
    save(result_of(other), target)
    assert json.loads(record.read_text())["image_sha256"] == read_image(other).sha256
    before = target.read_bytes()
    with pytest.raises(BadInputError, match="result of another image") as caught:
        save(make(scan), target)
    assert read_image(scan).sha256[:12] in str(caught.value) and read_image(other).sha256[:12] in str(caught.value)
    assert target.read_bytes() == before
    layer = make(other)
    layer.data[0, 0, 0] = 1
    save(layer, target)  # of the same image: as the dialog asked
    assert target.read_bytes() != before


def test_labels_that_were_opened_stay_the_result_of_their_image(scan: Path) -> None:
    target, again = scan.parent / "labels.nii.gz", scan.parent / "again.nii.gz"
    save(result_of(scan), target)
    ((data, options, kind),) = read(str(target))
    for _ in range(2):
        save(Layer.create(data, options, kind), again)
    assert json.loads((scan.parent / "again.json").read_text())["image_sha256"] == read_image(scan).sha256
    other = write_volume(scan.parent / "other.nii.gz", seed=5)
    with pytest.raises(BadInputError, match="result of another image"):
        save(result_of(other), again)


def test_a_stranger_s_labels_and_one_channel_of_a_file_are_not_taken_for_the_image(scan: Path) -> None:
    image, target = replace(read_image(scan), source=None), scan.parent / "labels.nii.gz"
    ones = np.ones((1, *image.geometry.shape), np.uint8)
    two = image.with_array(np.concatenate([image.array, image.array]))
    for data, options, _ in (label_layer(image.with_array(ones), {}, {}), *image_layers(two)):
        given = {"scale": options["scale"], "metadata": options["metadata"]}
        save(Layer.create(np.ones(data.shape, np.uint8), given, "labels"), target)
        assert "image_sha256" not in json.loads(target.with_name("labels.json").read_text())
