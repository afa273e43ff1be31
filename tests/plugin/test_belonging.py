"""Labels layers of any make land on the stored grid of the image they lie on; where none can be told, that is said."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_images import layer_image
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils.notifications import notification_manager

from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import UsageError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image
from napari_meduniseg._accepting import accept, submission
from napari_meduniseg._belonging import image_layer_of, labels_image
from napari_meduniseg._collections import Collection
from napari_meduniseg._layers import image_layers
from napari_meduniseg._reader import read
from napari_meduniseg._writer import write_image_layer, write_labels_layer
from napari_meduniseg.widgets.save_button import suggestion

SHAPE = (5, 6, 7)
SPOT = (1, 2, 3)


def oblique(
    axes: tuple[int, ...] = (2, 1, 0),
    signs: tuple[int, ...] = (1, 1, 1),
    tilt: float = 0.35,
    source: str = "scan.nii.gz",
) -> Image:
    """A volume whose axes run along the world's ``axes``, turned by ``tilt`` about x and a little about z."""
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, column] = sign
    c, s = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(tilt / 2), np.sin(tilt / 2)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ direction * (3.0, 0.5, 0.8)
    affine[:3, 3] = (-70.25, 33.125, 1234.5)
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(1, *SHAPE)
    return Image(array, Geometry.from_affine(affine, SHAPE), source=Path(source))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What napari notified of."""
    texts: list[str] = []

    def hear(notification: object) -> None:
        texts.append(str(notification.message))  # type: ignore[attr-defined]

    notification_manager.notification_ready.connect(hear)
    yield texts
    notification_manager.notification_ready.disconnect(hear)


def opened(viewer: ViewerModel, path: Path) -> ImageLayer:
    (data, options, _) = read(str(path))[0]
    return viewer.add_image(data, **options)


def made(kind: str, viewer: ViewerModel, image: ImageLayer) -> Labels:
    """A labels layer over ``image`` that this plugin did not make."""
    zeros = np.zeros(image.data.shape, np.uint8)
    if kind == "new labels button":
        viewer.layers.selection.active = image
        viewer._new_labels()
        return viewer.layers[-1]
    if kind == "duplicate":
        data, state, _ = made("new labels button", viewer, image).as_layer_data_tuple()
        return viewer.add_layer(Labels(copy.deepcopy(data), **{**state, "name": "copy"}))
    if kind == "scale and translate alone, rounded":
        return viewer.add_labels(zeros, scale=np.round(image.scale, 4), translate=np.round(image.translate, 3))
    if kind == "micrometres":
        return viewer.add_labels(
            zeros, scale=1000 * np.asarray(image.scale), translate=1000 * np.asarray(image.translate), units="um"
        )
    assert kind == "affine"
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.diag(image.scale), image.translate
    return viewer.add_labels(zeros, affine=affine, units=image.units)


KINDS = ["new labels button", "duplicate", "scale and translate alone, rounded", "micrometres", "affine"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axes", "signs"), [((2, 1, 0), (1, 1, 1)), ((0, 2, 1), (-1, 1, -1))], ids=["LPS", "turned"])
def test_labels_of_any_make_are_saved_on_the_stored_grid_of_the_image_under_them(
    tmp_path: Path, said: list[str], kind: str, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique(axes, signs), path)
    viewer = ViewerModel()
    image = opened(viewer, path)
    labels = made(kind, viewer, image)
    labels.data[SPOT] = 4
    target = tmp_path / "painted.nii.gz"
    data, attributes, _ = labels.as_layer_data_tuple()
    write_labels_layer(str(target), data, attributes)
    source, written = read_image(path), read_labels(target)
    assert written.geometry.is_close(source.geometry) and said == []
    (where,) = np.argwhere(written.array[0] == 4)
    assert source.array[(0, *where)] == image.data[SPOT]
    assert image_layer_of(labels, viewer.layers) is image


def test_labels_that_lie_on_no_image_are_written_as_their_transforms_say_and_it_is_said(
    tmp_path: Path, said: list[str]
) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique(), path)
    viewer = ViewerModel()
    image = opened(viewer, path)
    angle = np.deg2rad(20)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, 3] = (100, 200, 300)
    labels = viewer.add_labels(
        np.zeros(SHAPE, np.uint8), name="mine", scale=(2000, 500, 250), translate=(7000, 8000, 9000), rotate=rotation,
        shear=(0.1, 0, 0), affine=affine, units="um",
    )  # fmt: skip
    labels.data[SPOT] = 1
    target = tmp_path / "painted.nii.gz"
    data, attributes, _ = labels.as_layer_data_tuple()
    write_labels_layer(str(target), data, attributes)
    written = read_labels(target)
    z, y, x = np.asarray(labels.data_to_world(SPOT)) / 1000
    np.testing.assert_allclose((written.geometry.affine @ (*SPOT, 1))[:3], (x, y, z), atol=1e-3)
    assert len(said) == 1 and "mine lies exactly on no image" in said[0] and "2 x " in said[0]
    assert image_layer_of(labels, viewer.layers) is None
    image.visible = False  # hidden is not gone


def test_a_shift_of_half_a_voxel_is_no_place_on_the_image(tmp_path: Path, said: list[str]) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique(), path)
    viewer = ViewerModel()
    image = opened(viewer, path)
    labels = made("affine", viewer, image)
    labels.translate = (0, 0.25, 0)
    data, attributes, _ = labels.as_layer_data_tuple()
    write_labels_layer(str(tmp_path / "painted.nii.gz"), data, attributes)
    assert len(said) == 1 and not read_labels(tmp_path / "painted.nii.gz").geometry.is_close(read_image(path).geometry)


def test_a_result_that_was_moved_is_written_where_it_lies_now(tmp_path: Path, said: list[str]) -> None:
    viewer = ViewerModel()
    data, options, _ = image_layers(oblique())[0]
    image = viewer.add_image(data, **options)
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint8), metadata=image.metadata, scale=image.scale,
                               translate=image.translate, name="moved")  # fmt: skip
    _, attributes, _ = labels.as_layer_data_tuple()
    assert labels_image(labels.data, attributes).like is not None
    labels.translate = np.asarray(image.translate) + np.array((10, 0, 0))
    _, attributes, _ = labels.as_layer_data_tuple()
    placed = labels_image(labels.data, attributes, viewer.layers)
    assert placed.like is None and placed.labels.geometry.origin == pytest.approx(labels.translate[::-1])
    assert "moved lies exactly on no image" in " ".join(placed.notes)


def test_of_two_scans_in_one_place_the_one_is_meant_that_the_labels_are_named_after(
    tmp_path: Path, said: list[str]
) -> None:
    viewer = ViewerModel()
    images = []
    for name, tilt in (("first.nii.gz", 0.0), ("second.nii.gz", 0.35)):
        image = oblique(tilt=tilt)
        # as the viewer shows them they lie in one place: it knows no rotation
        geometry = Geometry(SHAPE, image.geometry.spacing, (1.0, 2.0, 3.0), image.geometry.direction)
        write_image(Image(image.array, geometry), tmp_path / name)
        images.append(opened(viewer, tmp_path / name))
    first, second = images
    named = made("new labels button", viewer, second)
    assert named.name == "second.nii.gz - Labels" and image_layer_of(named, viewer.layers) is second
    data, attributes, _ = named.as_layer_data_tuple()
    write_labels_layer(str(tmp_path / "a.nii.gz"), data, attributes)
    assert read_labels(tmp_path / "a.nii.gz").geometry.is_close(read_image(tmp_path / "second.nii.gz").geometry)
    assert said == []

    other = made("affine", viewer, second)
    other.name = "tumour"
    data, attributes, _ = other.as_layer_data_tuple()
    write_labels_layer(str(tmp_path / "b.nii.gz"), data, attributes)
    assert "several images with different grids (first.nii.gz, second.nii.gz)" in said[0]
    assert image_layer_of(other, viewer.layers) is None and image_layer_of(other, viewer.layers, prefer=first) is first
    placed = labels_image(data, attributes, viewer.layers, prefer=second)
    assert placed.like is not None and placed.like.name == "second.nii.gz" and placed.notes == ()


def test_an_image_layer_over_a_scan_is_segmented_and_saved_on_the_scan_s_grid(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique((0, 2, 1), (-1, 1, -1)), path)
    viewer = ViewerModel()
    image = opened(viewer, path)
    smoothed = viewer.add_image(np.asarray(image.data) + 0.5, scale=image.scale, translate=image.translate)
    taken = layer_image([smoothed])
    source = read_image(path)
    assert taken.image.geometry.is_close(source.geometry)
    np.testing.assert_array_equal(taken.image.array, source.array + 0.5)
    data, attributes, _ = smoothed.as_layer_data_tuple()
    write_image_layer(str(tmp_path / "smoothed.nii.gz"), data, attributes)
    assert read_image(tmp_path / "smoothed.nii.gz").geometry.is_close(source.geometry)
    image.translate = np.asarray(image.translate) + np.array((0, 5, 0))
    data, attributes, _ = image.as_layer_data_tuple()
    write_image_layer(str(tmp_path / "moved.nii.gz"), data, attributes)
    moved = read_image(tmp_path / "moved.nii.gz").geometry
    assert moved.origin == pytest.approx(tuple(image.translate[::-1]), abs=1e-3)


def test_new_labels_on_an_oblique_scan_are_accepted_on_its_grid_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique((0, 2, 1), (-1, 1, -1)), path)
    viewer = ViewerModel()
    image = opened(viewer, path)
    labels = made("new labels button", viewer, image)
    labels.features = {"index": [0, 1], "name": ["background", "liver"]}
    labels.data[SPOT] = 1
    into = Collection(tmp_path / "liver", "liver", "mri", exists=False)
    entry = accept(submission(labels, image), into).entry
    kept = read_labels(Ledger.open(tmp_path / "liver").files.labels(entry.case))
    source = read_image(path)
    assert kept.geometry.is_close(source.geometry)
    (where,) = np.argwhere(kept.array[0] == 1)
    assert source.array[(0, *where)] == image.data[SPOT]
    labels.translate = np.asarray(labels.translate) + np.array((3, 0, 0))
    with pytest.raises(UsageError, match=r"has another grid than scan\.nii\.gz"):
        accept(submission(labels, image), into)


def test_labels_on_a_photograph_and_one_with_a_depth_of_one_belong_to_it(tmp_path: Path) -> None:
    viewer = ViewerModel()
    photo = viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True, name="photo")
    assert image_layer_of(viewer.add_labels(np.zeros((8, 9), np.uint8)), viewer.layers) is photo
    assert image_layer_of(viewer.add_labels(np.zeros((1, 8, 9), np.uint8)), viewer.layers) is photo
    assert image_layer_of(viewer.add_labels(np.zeros((9, 8), np.uint8)), viewer.layers) is None
    assert image_layer_of(viewer.add_labels(np.zeros((2, 2, 8, 9), np.uint8)), viewer.layers) is None


def test_labels_of_one_s_own_are_proposed_beside_their_image(gui: Any, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(oblique(), path)
    (image,) = gui.open(str(path), plugin="napari-meduniseg")
    gui.layers.selection.active = image
    gui._new_labels()
    assert suggestion(gui.layers[-1]) == tmp_path / "scan_-_Labels.nii.gz"
    alone = gui.add_labels(np.zeros((3, 3, 3), np.uint8), name="alone")
    assert suggestion(alone) == Path.home() / "alone.nii.gz"
