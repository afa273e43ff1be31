"""Label maps as OME-Zarr: the folder is whole or not there, and zarr and ome-zarr-models find in it what was written.

ome-zarr-models (a checker of the specification's own people) is not among the tests' packages: it wants an older
pydantic than the tested one. Where it is installed, it reads the folder, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import digest_of
from meduniseg_core.images import Image, read_labels
from meduniseg_core.images.formats import ome_zarr
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.palette import class_colour
from meduniseg_core.images.writing import write_labels

zarr = pytest.importorskip("zarr")

NAMES = {1: "spleen", 2: "left kidney", 7: "liver"}


def labelled(shape: tuple[int, int, int], *, physical: bool = True, **place: object) -> Image:
    array = np.zeros((1, *shape), np.int64)
    array[0, :, 2:9, 3:12] = 1
    array[0, -1, 10:, :5] = 300  # without a name
    geometry = Geometry(shape, (2.5, 0.5, 0.75), **place)  # type: ignore[arg-type]
    return Image(array, geometry, physical=physical)


def test_a_volume_has_names_colours_units_and_its_place(tmp_path: Path) -> None:
    labels = labelled((70, 40, 600), origin=(10.0, 20.0, -30.0))
    path = tmp_path / "ct.ome.zarr"
    write_labels(labels, path, names=NAMES, colours={2: (1, 2, 3)})
    assert [one.name for one in tmp_path.iterdir()] == [path.name]

    group = zarr.open_group(str(path), mode="r")
    assert json.loads((path / "zarr.json").read_text())["zarr_format"] == 3
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scales, shapes = [], []
    for number, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert translation == {"type": "translation", "translation": [-30.0, 20.0, 10.0]}
        scales.append(scale["scale"])
        array = group[dataset["path"]]
        shapes.append(array.shape)
        steps = [round(here / first) for here, first in zip(scale["scale"], scales[0], strict=True)]
        expected = labels.array[0][tuple(slice(None, None, step) for step in steps)]
        assert np.array_equal(array[:], expected) and array.dtype == np.uint16, number
        assert array.metadata.dimension_names == ("z", "y", "x")
    assert shapes == [(70, 40, 600), (35, 40, 300), (35, 40, 150)]
    assert scales == [[2.5, 0.5, 0.75], [5.0, 0.5, 1.5], [5.0, 0.5, 3.0]]
    label = ome["image-label"]
    assert label["properties"] == [
        {"label-value": 0, "name": "background"},
        {"label-value": 1, "name": "spleen"},
        {"label-value": 2, "name": "left kidney"},
        {"label-value": 7, "name": "liver"},
        {"label-value": 300, "name": "label 300"},
    ]
    assert label["colors"][0] == {"label-value": 0, "rgba": [0, 0, 0, 0]}
    assert {one["label-value"]: one["rgba"] for one in label["colors"][1:]} == {
        1: [*class_colour(1), 255],
        2: [1, 2, 3, 255],
        7: [*class_colour(7), 255],
        300: [*class_colour(300), 255],
    }
    assert np.array_equal(group.attrs["meduniseg"]["index_to_lps_mm"], labels.geometry.affine)


@pytest.mark.parametrize("physical", [True, False])
def test_ome_zarr_models_finds_no_fault(physical: bool, tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05.image_label", reason="ome-zarr-models is not installed")
    depth = 4 if physical else 1
    write_labels(labelled((depth, 30, 300), physical=physical), tmp_path / "x.ome.zarr", names=NAMES)
    found = models.ImageLabel.from_zarr(zarr.open_group(str(tmp_path / "x.ome.zarr"), mode="r")).ome_attributes
    assert [axis.name for axis in found.multiscales[0].axes] == list("zyx" if physical else "yx")
    assert len(found.image_label.colors) == 5 and len(found.multiscales[0].datasets) == 2


def test_a_picture_has_two_axes_and_no_unit(tmp_path: Path) -> None:
    labels = labelled((1, 20, 30), physical=False)
    write_labels(labels, tmp_path / "photo.ome.zarr")
    group = zarr.open_group(str(tmp_path / "photo.ome.zarr"), mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert multiscale["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert np.array_equal(group["0"][:], labels.array[0, 0])


def test_an_oblique_grid_keeps_its_affine(tmp_path: Path) -> None:
    turned = ((0.0, 0.0, -1.0), (0.6, 0.8, 0.0), (0.8, -0.6, 0.0))
    labels = labelled((3, 20, 30), origin=(5.0, 7.0, 9.0), direction=turned)
    write_labels(labels, tmp_path / "x.ome.zarr")
    group = zarr.open_group(str(tmp_path / "x.ome.zarr"), mode="r")
    _, translation = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert np.allclose(np.asarray(turned) @ translation["translation"], (5.0, 7.0, 9.0))
    assert np.array_equal(group.attrs["meduniseg"]["index_to_lps_mm"], labels.geometry.affine)


def test_a_failure_leaves_the_former_one_and_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ome.zarr"
    write_labels(labelled((3, 20, 30)), path)
    before = digest_of(path)

    def fail(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ome_zarr, "_sync_tree", fail)
        write_labels(labelled((4, 20, 30)), path)
    assert digest_of(path) == before and [one.name for one in tmp_path.iterdir()] == [path.name]
    write_labels(labelled((4, 20, 30)), path)
    assert digest_of(path) != before and [one.name for one in tmp_path.iterdir()] == [path.name]
    with pytest.raises(BadInputError, match=r"x\.ome\.zarr is an OME-Zarr, which is written here and not read"):
        read_labels(path)


def test_the_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_zarr, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'napari-meduniseg\[ome-zarr\]'"):
        write_labels(labelled((3, 20, 30)), tmp_path / "x.ome.zarr")
    assert list(tmp_path.iterdir()) == []
