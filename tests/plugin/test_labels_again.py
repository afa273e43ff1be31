"""Labels that were saved are labels again when they are opened: with names and colours, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from PIL import Image as Picture
from small_inputs import write_volume

from napari_meduniseg._editing import add_class
from napari_meduniseg._layers import class_options
from napari_meduniseg._reader import get_reader, read_one
from napari_meduniseg._writer import write_labels_layer

NAMES = {1: "nerve", 2: "vessel"}
COLOURS = {1: (10, 200, 30), 2: (250, 120, 5)}


def opened(path: Path) -> Any:
    """What *File > Open* adds for a path, by our reader."""
    found = get_reader(str(path))
    assert found is not None
    ((data, options, kind),) = found(str(path))
    return Layer.create(data, options, kind)


def save(layer: Any, path: Path) -> list[str]:
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_labels_layer(str(path), data, attributes)


def photograph(path: Path) -> Path:
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("ending", [".png", ".tif", ".nii.gz", ".nrrd", ".mha"])
def test_labels_made_by_hand_come_back_with_names_and_colours(tmp_path: Path, ending: str) -> None:
    viewer, flat = ViewerModel(), ending in (".png", ".tif")
    source = photograph(tmp_path / "photo.png") if flat else write_volume(tmp_path / "mr.nii.gz")
    for data, options, kind in read_one(source):
        viewer.add_layer(Layer.create(data, options, kind))
    shape = viewer.layers[0].data.shape[: viewer.layers[0].ndim]
    mine = viewer.add_labels(np.zeros(shape, np.uint8), **class_options(NAMES, COLOURS))
    mine.scale, mine.translate, mine.units = (getattr(viewer.layers[0], key) for key in ("scale", "translate", "units"))
    mine.data[..., 2:5, 3:9], mine.data[..., 6:9, 3:9] = 1, 2
    save(mine, tmp_path / f"mine{ending}")
    again = opened(tmp_path / f"mine{ending}")
    assert type(again).__name__ == "Labels"
    assert list(again.features["name"]) == ["background", "nerve", "vessel"]
    for label, colour in COLOURS.items():
        np.testing.assert_allclose(255 * np.asarray(again.get_color(label))[:3], colour, atol=0.51)
    np.testing.assert_array_equal(again.data, mine.data)


def test_what_was_added_and_recoloured_after_opening_is_kept_the_next_time(tmp_path: Path) -> None:
    viewer = ViewerModel()
    mine = viewer.add_labels(np.eye(9, dtype=np.uint8), **class_options({1: "nerve"}, {}))
    save(mine, tmp_path / "mine.png")
    again = opened(tmp_path / "mine.png")
    label = add_class(again, "lesion")
    again.data[0, 5] = label
    save(again, tmp_path / "second.tif")
    third = opened(tmp_path / "second.tif")
    assert list(third.features["name"]) == ["background", "nerve", "lesion"] and third.data[0, 5] == label


def test_labels_without_a_name_come_back_as_labels_in_their_colours(tmp_path: Path) -> None:
    mine = ViewerModel().add_labels(np.arange(12, dtype=np.uint8).reshape(3, 4))
    save(mine, tmp_path / "cells.png")
    again = opened(tmp_path / "cells.png")
    assert type(again).__name__ == "Labels"
    for label in (1, 7, 11):
        np.testing.assert_allclose(again.get_color(label)[:3], mine.get_color(label)[:3], atol=0.01)


def test_a_result_keeps_its_provenance_through_a_second_correction(tmp_path: Path) -> None:
    from meduniseg_core.images import read_image
    from meduniseg_core.outputs import write_result
    from meduniseg_core.provenance import RESULT, provenance_path

    image = read_image(photograph(tmp_path / "photo.png"))
    about = {"task": "disc", "model": "tiny", "model_sha256": "0" * 64, "image": "photo.png", "classes": {"1": "disc"}}
    target = tmp_path / "out" / "photo.png"
    target.parent.mkdir()
    from meduniseg_core.images import write_labels

    labels = image.with_array(np.zeros((1, 1, 20, 30), np.uint8))
    write_result(
        provenance_path(target), about, {target.name: lambda file: write_labels(labels, file, like=image)}, RESULT
    )
    layer = opened(target)
    save(layer, tmp_path / "same.png")
    assert json.loads((tmp_path / "same.json").read_text())["edited"] is False
    layer.data[3:5, 3:5] = 1
    save(layer, tmp_path / "changed.png")
    said = json.loads((tmp_path / "changed.json").read_text())
    assert (said["edited"], said["model"], said["task"]) == (True, "tiny", "disc")
    assert list(opened(tmp_path / "changed.png").features["name"]) == ["background", "disc"]


def test_images_are_images_also_beside_a_json_that_lists_another_file(tmp_path: Path) -> None:
    viewer = ViewerModel()
    mine = viewer.add_labels(np.eye(20, 30, dtype=np.uint8), **class_options({1: "nerve"}, {}))
    photo = photograph(tmp_path / "photo.png")
    save(mine, tmp_path / "photo.tif")  # its JSON is photo.json
    assert type(opened(photo)).__name__ == "Image" and opened(photo).rgb
    assert type(opened(tmp_path / "photo.tif")).__name__ == "Labels"


def test_a_stranger_s_json_is_kept_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_meduniseg._writer as module

    said: list[str] = []
    monkeypatch.setattr(module, "show_warning", said.append)
    (tmp_path / "scan.json").write_text('{"EchoTime": 0.03}')
    mine = ViewerModel().add_labels(np.eye(20, 30, dtype=np.uint8))
    assert save(mine, tmp_path / "scan.png") == [str(tmp_path / "scan.png")]
    assert (tmp_path / "scan.json").read_text() == '{"EchoTime": 0.03}' and any("scan.json" in text for text in said)


def test_labels_in_a_format_without_mm_come_back_at_the_place_of_their_image(tmp_path: Path) -> None:
    from dataclasses import replace

    from meduniseg_core.images import Geometry, Image, read_labels, write_image
    from napari_meduniseg._current import current_of

    array = np.random.default_rng(0).integers(0, 4000, (1, 1, 30, 40)).astype(np.uint16)
    turned = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))  # shown mirrored against the file
    geometry = replace(Geometry((1, 30, 40), (1.0, 0.14, 0.2)), origin=(5.0, -7.0, 2.0), direction=turned)
    write_image(Image(array, geometry), tmp_path / "xray.nii.gz")
    viewer = ViewerModel()
    current = current_of(viewer)
    image = viewer.add_layer(opened(tmp_path / "xray.nii.gz"))
    mine = viewer.add_labels(np.zeros((30, 40), np.uint8), name="lung", **class_options(NAMES, COLOURS))
    mine.scale, mine.translate, mine.units = image.scale, image.translate, image.units
    mine.data[2:9, 4:7] = 1
    current.choose_labels(mine)
    data, attributes, _ = mine.as_layer_data_tuple()
    from napari_meduniseg._writer import write_on_grid

    write_on_grid(str(tmp_path / "lung.png"), data, attributes, list(viewer.layers), image)
    again = viewer.add_layer(opened(tmp_path / "lung.png"))
    assert current.image_of(again) is image and again.units == image.units
    np.testing.assert_array_equal(again.data, mine.data)
    assert viewer.layers.extent.units is not None  # nothing for napari to warn of
    again.data[20:25, 4:7] = 2
    data, attributes, _ = again.as_layer_data_tuple()
    _, notes = write_on_grid(str(tmp_path / "again.nii.gz"), data, attributes, list(viewer.layers), image)
    saved = read_labels(tmp_path / "again.nii.gz")
    assert notes == () and np.allclose(saved.geometry.affine, read_image_geometry(tmp_path / "xray.nii.gz"))
    stored = saved.array[0, 0]
    assert (stored == 1).sum() == 21 and (stored == 2).sum() == 15
    np.testing.assert_array_equal(opened(tmp_path / "again.nii.gz").data, again.data)
    record = json.loads((tmp_path / "lung.json").read_text())
    (tmp_path / "lung.json").write_text(json.dumps({**record, "image": "another.nii.gz"}))
    assert str(opened(tmp_path / "lung.png").units[0]) == "pixel"  # its image is not open: no place is guessed


def test_a_stack_without_orientation_comes_back_on_its_image(tmp_path: Path) -> None:
    from dataclasses import replace

    from meduniseg_core.images import Geometry, Image, write_image
    from napari_meduniseg._current import current_of
    from napari_meduniseg._writer import write_on_grid

    turned = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))[::-1]
    geometry = replace(Geometry((6, 30, 40), (2.0, 1.0, 1.0)), origin=(5.0, -7.0, 2.0), direction=turned)
    array = np.random.default_rng(0).uniform(0, 9, (1, 6, 30, 40)).astype(np.float32)
    write_image(Image(array, geometry), tmp_path / "mr.nii.gz")
    viewer = ViewerModel()
    current = current_of(viewer)
    image = viewer.add_layer(opened(tmp_path / "mr.nii.gz"))
    mine = viewer.add_labels(
        np.zeros(image.data.shape, np.uint8), name="mr.nii.gz: mine", **class_options(NAMES, COLOURS)
    )
    mine.scale, mine.translate, mine.units = image.scale, image.translate, image.units
    mine.data[1, 2:9, 4:7] = 1
    current.choose_labels(mine)
    data, attributes, _ = mine.as_layer_data_tuple()
    write_on_grid(str(tmp_path / "lesion.tif"), data, attributes, list(viewer.layers), image)
    again = viewer.add_layer(opened(tmp_path / "lesion.tif"))
    np.testing.assert_array_equal(again.data, mine.data)
    np.testing.assert_allclose(again.extent.world, image.extent.world)
    assert current.image_of(again) is image
    assert list(again.features["name"]) == ["background", *NAMES.values()]


def read_image_geometry(path: Path) -> Any:
    from meduniseg_core.images import read_image

    return read_image(path).geometry.affine
