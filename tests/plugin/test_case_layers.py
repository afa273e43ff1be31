"""Cases of a worklist as layers, without a window: what accepting them will store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from small_inputs import write_volume

from meduniseg_core.images import Geometry, Image, read_image, write_image, write_labels
from meduniseg_core.provenance import provenance_path
from meduniseg_core.worklist import Worklist
from napari_meduniseg import _unsaved
from napari_meduniseg._accepting import origins_of, submission
from napari_meduniseg._cases import add_case_labels, add_image, layers_of, open_case
from napari_meduniseg._layers import METADATA_KEY

SHAPE = (6, 20, 22)


def result(path: Path, image: Image, **changes: Any) -> None:
    """A label map with a JSON like that of a result."""
    labels = np.zeros((1, *SHAPE), np.uint8)
    labels[0, 2:4, 5:9, 5:9] = 1
    path.parent.mkdir(exist_ok=True)
    write_labels(image.with_array(labels), path, like=image)
    from meduniseg_core.files import sha256_of

    record = {
        "task": "organ",
        "modality": "mri",
        "model": "tiny",
        "model_sha256": "a" * 64,
        "image": image.name,
        "image_sha256": image.sha256,
        "classes": {"1": "liver"},
        "colours": {"1": [255, 0, 0]},
        "files": {path.name: sha256_of(path)},
        **changes,
    }
    provenance_path(path).write_text(json.dumps(record))


def opened(folder: Path, name: str) -> tuple[ViewerModel, Any]:
    listed = Worklist(folder, folder.with_name("out"), "organ")
    item = next(item for item in listed.items() if item.name == name)
    viewer = ViewerModel()
    case = open_case(listed, item)
    (image, *_) = add_image(case, viewer)
    return viewer, add_case_labels(case, image, viewer)


def test_a_prediction_is_accepted_with_its_model_and_all_channels(tmp_path: Path) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    for channel in range(2):
        write_volume(folder / f"scan_000{channel}.nii.gz", SHAPE, channel)
    image = read_image((folder / "scan_0000.nii.gz", folder / "scan_0001.nii.gz"))
    result(tmp_path / "out" / "scan.nii.gz", image)
    viewer, labels = opened(folder, "scan")
    assert len(viewer.layers) == 3 and not _unsaved.is_unsaved(labels)
    given = submission(labels, None)
    assert isinstance(given.image, Image) and given.image.channels == 2
    assert given.origins.model is not None and given.origins.model.sha256 == "a" * 64
    assert given.origins.predicted is not None and given.classes == ("liver",)
    assert set(layers_of([layer for layer in viewer.layers if layer is not labels], list(viewer.layers))) == set(
        viewer.layers
    )


@pytest.mark.parametrize("changes", [{"model_sha256": "x"}, {"model_sha256": 7}, {"quality": [1]}, {"modality": 3}])
def test_a_json_that_somebody_changed_opens(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    write_volume(folder / "scan.nii.gz", SHAPE)
    result(tmp_path / "out" / "scan.nii.gz", read_image(folder / "scan.nii.gz"), **changes)
    _, labels = opened(folder, "scan")
    model = origins_of(labels).model
    assert model is not None and model.sha256 in (None, "a" * 64)


def test_a_correction_is_no_prediction_and_stays_edited(tmp_path: Path) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    array = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    oblique = np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]])
    write_image(Image(array, Geometry(SHAPE, (2.0, 2.0, 2.0), direction=oblique)), folder / "scan.nii.gz")
    image = read_image(folder / "scan.nii.gz")
    result(tmp_path / "out" / "scan.nii.gz", image, edited=True)
    _, labels = opened(folder, "scan")
    assert origins_of(labels).predicted is None and labels.metadata[METADATA_KEY]["crc"] == -1
    given = submission(labels, None)
    assert given.grid is not None and given.grid.stored(labels.data)[0, 2:4, 5:9, 5:9].all()  # on the image's own grid
    assert int(labels.data.sum()) == 2 * 4 * 4
