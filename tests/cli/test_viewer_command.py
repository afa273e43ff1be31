"""``meduniseg napari``: what is handed to the viewer, and what is said where there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_inputs import write_photograph, write_volume

from meduniseg_core.images import Geometry, Image, write_labels
from training_cli import viewer
from training_cli.main import main


def test_without_napari_one_sentence_says_how_to_get_it(monkeypatch, capsys) -> None:
    monkeypatch.setattr(viewer, "is_installed", lambda package: False)
    assert main(("napari",)) == 2
    printed = capsys.readouterr().err
    assert "pip install 'napari-meduniseg[napari]'" in printed and printed.count("\n") == 1


def test_a_volume_is_an_image_in_mm_with_axes_ordered_like_the_array(tmp_path) -> None:
    kind, array, options = viewer.layer_of(write_volume(tmp_path / "scan.nii.gz"))
    assert (kind, array.shape, options["name"]) == ("image", (20, 36, 40), "scan.nii.gz")
    np.testing.assert_allclose(options["affine"], np.diag([2.0, 2.0, 2.0, 1.0]), atol=1e-6)


def test_a_photograph_is_rgb(tmp_path) -> None:
    kind, array, options = viewer.layer_of(write_photograph(tmp_path / "eye.png"))
    assert (kind, array.shape, options["rgb"], options["affine"].shape) == ("image", (48, 64, 3), True, (3, 3))


@pytest.mark.parametrize("ours", [True, False])
def test_a_label_file_is_labels_only_where_its_provenance_lies_beside_it(tmp_path, ours) -> None:
    path = tmp_path / "scan.nii.gz"
    write_labels(Image(np.ones((1, 4, 5, 6), np.uint8), Geometry((4, 5, 6), (3.0, 2.0, 1.0))), path)
    if ours:
        (tmp_path / "scan.json").write_text(json.dumps({"task": "spleen", "model_sha256": "0"}))
    kind, array, _ = viewer.layer_of(path)
    assert (kind, array.shape) == ("labels" if ours else "image", (4, 5, 6))
