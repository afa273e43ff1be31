"""Labels saved in the viewer: never over their image, nor over a JSON that is not ours; what is written is listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from small_inputs import write_volume

from meduniseg_core.errors import UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Segmentation
from meduniseg_core.outputs import standing
from meduniseg_core.provenance import RESULT
from napari_meduniseg._layers import result_layer
from napari_meduniseg._reader import read
from napari_meduniseg._taking import image_of
from napari_meduniseg._writer import write_labels_layer


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "scan.nii.gz")


def result_of(scan: Path) -> Layer:
    """A result of ours on the scan, as a layer."""
    ((data, options, _),) = read(str(scan))
    layer = ViewerModel().add_image(data, **options)
    taken = image_of([layer])
    labels = np.zeros(taken.image.array.shape, np.uint8)
    labels[0, 2:5, 4:9, 4:9] = 1
    result = Segmentation(
        labels=taken.image.with_array(labels), image=taken.image, task="organ", modality="mri", class_names=("liver",),
        model="tiny", model_sha256="ab" * 32, version="0.1.0", seconds=1.0, rung="cpu",
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
    with pytest.raises(UsageError, match=r"labels\.json is there already"):
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
