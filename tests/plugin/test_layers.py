"""Layers to images and back: geometry, colours, refusals."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from layer_images import layer_image
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image
from napari_meduniseg._layer_input import read_layers, snapshot_layers
from napari_meduniseg._layers import image_layers
from napari_meduniseg._reader import get_reader, read
from napari_meduniseg._writer import write_labels_layer

SHAPE = (5, 6, 7)


def layer_of(image: Image) -> ImageLayer:
    data, options, _ = image_layers(image)[0]
    return ImageLayer(data, **options)


def oriented(axes: tuple[int, ...], signs: tuple[int, ...], tilt: float = 0.0) -> Image:
    """A volume whose array axes run along the world's ``axes`` with these signs, turned by ``tilt`` about x."""
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, column] = sign
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ direction * (3.0, 0.5, 0.8)
    affine[:3, 3] = (10, -20, 30)
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(1, *SHAPE)
    return Image(array, Geometry.from_affine(affine, SHAPE), source=Path("volume.nii.gz"))


@pytest.mark.parametrize("axes", list(itertools.permutations((0, 1, 2))), ids=str)
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)], ids=str)
def test_a_voxel_is_shown_where_it_lies_in_the_patient(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    image = oriented(axes, signs)
    layer = layer_of(image)
    for index in [(0, 0, 0), (4, 5, 6), (1, 2, 3)]:
        x, y, z = (image.geometry.affine @ (*index, 1))[:3]
        shown = np.rint(layer.world_to_data((z, y, x))).astype(int)
        assert layer.data[tuple(shown)] == image.array[(0, *index)]
        np.testing.assert_allclose(layer.data_to_world(tuple(shown)), (z, y, x), atol=1e-4)


def test_what_was_read_is_what_is_segmented_even_after_a_new_name_and_other_contrast() -> None:
    image = oriented((2, 0, 1), (1, -1, 1), tilt=0.3)
    layer = layer_of(image)
    layer.name, layer.contrast_limits = "renamed", (0, 10)
    assert layer_image([layer]).image is image


def test_a_layer_that_was_moved_is_taken_as_it_lies_now() -> None:
    layer = layer_of(oriented((2, 1, 0), (1, 1, 1)))
    layer.translate = (0, 0, 0)
    taken = layer_image([layer]).image
    assert taken.geometry.origin == (0, 0, 0) and taken.geometry.spacing == pytest.approx((3.0, 0.5, 0.8))


def test_a_foreign_layer_with_a_rotated_affine_keeps_its_place() -> None:
    angle = np.deg2rad(20)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    layer = ImageLayer(np.zeros(SHAPE), scale=(2, 1, 1), rotate=rotation, translate=(7, 8, 9), units="mm")
    geometry = layer_image([layer]).image.geometry
    assert geometry.is_orthonormal() and geometry.spacing == pytest.approx((2, 1, 1))
    z, y, x = layer.data_to_world((1, 2, 3))
    np.testing.assert_allclose((geometry.affine @ (1, 2, 3, 1))[:3], (x, y, z), atol=1e-6)


def test_other_units_of_length_become_millimetres_and_missing_ones_are_said() -> None:
    taken = layer_image([ImageLayer(np.zeros(SHAPE), scale=(500, 500, 250), units="um")])
    assert taken.image.geometry.spacing == pytest.approx((0.5, 0.5, 0.25)) and not taken.image.findings
    taken = layer_image([ImageLayer(np.zeros(SHAPE), scale=(5, 1, 1))])
    assert taken.image.physical and "taken as mm" in taken.image.findings[0].text


def test_a_colour_layer_is_a_photograph_and_its_alpha_is_dropped() -> None:
    array = np.random.default_rng(0).integers(0, 255, (8, 9, 4), dtype=np.uint8)
    image = layer_image([ImageLayer(array, rgb=True)]).image
    assert image.array.shape == (3, 1, 8, 9) and not image.physical and image.meta["colour"] == "rgb"
    np.testing.assert_array_equal(np.moveaxis(image.array[:, 0], 0, -1), array[..., :3])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (ImageLayer(np.zeros((2, 3, 4, 5))), "4 dimensions"),
        (ImageLayer([np.zeros((64, 64)), np.zeros((32, 32))], multiscale=True), "multiscale"),
        (ImageLayer(np.zeros((3, 8, 8, 3), np.uint8), rgb=True), "stack of colour"),
        (ImageLayer(np.full((4, 4), np.nan), contrast_limits=(0, 1)), "NaN"),
    ],
    ids=["4D", "multiscale", "colour stack", "NaN"],
)
def test_what_cannot_be_segmented_is_refused_in_one_sentence(layer: ImageLayer, reason: str) -> None:
    layer.name = "thing"
    with pytest.raises(BadInputError, match=reason) as caught:
        layer_image([layer])
    assert "thing" in str(caught.value)


def lazy(array: np.ndarray, read: list[str]) -> da.Array:
    """The array in chunks of a slice that write down the thread they are read in."""

    def note(block: np.ndarray) -> np.ndarray:
        read.append(threading.current_thread().name)
        return block

    whole = da.from_array(array, chunks=(1, *array.shape[1:]))
    return whole.map_blocks(note, dtype=array.dtype, meta=np.empty((0,) * array.ndim, array.dtype))


def test_a_capture_tells_everything_but_the_voxels_and_reads_none() -> None:
    array = np.random.default_rng(0).normal(size=SHAPE)
    read: list[str] = []
    layer = ImageLayer(lazy(array, read), scale=(3, 1, 1), units="mm", contrast_limits=(0, 1))
    before = len(read)  # the slice that napari shows
    snapshots = snapshot_layers([layer])
    assert snapshots[0].shape == SHAPE and snapshots[0].outline.geometry.spacing == (3, 1, 1)
    assert len(read) == before
    np.testing.assert_array_equal(read_layers(snapshots).image.array[0], array)
    assert len(read) == before + SHAPE[0]


def test_voxels_that_are_no_numbers_are_known_only_when_they_are_read() -> None:
    array = np.zeros(SHAPE)
    array[-1, 0, 0] = np.inf
    snapshots = snapshot_layers([ImageLayer(array, name="thing", contrast_limits=(0, 1))])
    with pytest.raises(BadInputError, match="thing holds NaN or infinite"):
        read_layers(snapshots)


def test_channels_on_other_grids_are_refused_before_they_are_read() -> None:
    read: list[str] = []
    layers = [
        ImageLayer(lazy(np.zeros(shape), read), units="mm", contrast_limits=(0, 1)) for shape in (SHAPE, (5, 6, 8))
    ]
    before = len(read)
    with pytest.raises(BadInputError, match="grid"):
        snapshot_layers(layers)
    assert len(read) == before


@pytest.mark.parametrize("tilt", [0.0, 0.4])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_painted_labels_are_saved_on_the_grid_of_the_image_they_were_painted_on(
    tmp_path: Path, tilt: float, ending: str
) -> None:
    path = tmp_path / f"scan{ending}"
    write_image(oriented((2, 0, 1), (1, -1, 1), tilt), path)
    viewer = ViewerModel()
    (data, options, _) = read(str(path))[0]
    layer = viewer.add_image(data, **options)
    painted = np.zeros(layer.data.shape, np.uint8)
    painted[1, 2, 3] = 4
    labels = viewer.add_labels(painted, metadata=layer.metadata, scale=layer.scale, translate=layer.translate)
    target = tmp_path / f"labels{ending}"
    data, attributes, _ = labels.as_layer_data_tuple()
    write_labels_layer(str(target), data, attributes)
    source, written = read_image(path), read_labels(target)
    assert written.geometry.is_close(source.geometry)
    (where,) = np.argwhere(written.array[0] == 4)
    z, y, x = labels.data_to_world((1, 2, 3))
    if tilt == 0:
        np.testing.assert_allclose((source.geometry.affine @ (*where, 1))[:3], (x, y, z), atol=1e-4)
    assert source.array[(0, *where)] == layer.data[1, 2, 3]


def test_the_reader_takes_medical_files_and_no_pictures_that_are_not_there(tmp_path: Path) -> None:
    assert get_reader("scan.nii.gz") is not None and get_reader(["a.mha", "b.nrrd"]) is not None
    assert get_reader("photo.png") is None and get_reader(str(tmp_path)) is None


def test_a_dicom_folder_opens_as_one_ct_layer_in_a_soft_tissue_window(shared_data: Path) -> None:
    folder = str(shared_data / "Dataset301_Geometry" / "ct_dicom_series")
    reader = get_reader(folder)
    assert reader is not None
    ((data, options, kind),) = reader(folder)
    assert kind == "image" and data.ndim == 3 and options["units"] == ("mm",) * 3
    assert options["contrast_limits"] == (-160.0, 240.0)


def test_an_mr_opens_bright_and_its_slider_reaches_every_intensity(tmp_path: Path) -> None:
    from napari.components import ViewerModel

    from meduniseg_core.images import Geometry, Image, write_image
    from napari_meduniseg._current import current_of

    array = np.random.default_rng(0).uniform(100, 500, (1, 10, 20, 30)).astype(np.float32)
    array[0, 5, 5, 5] = 8000
    write_image(Image(array, Geometry((10, 20, 30), (1.0, 1.0, 1.0))), tmp_path / "mr.nii.gz")
    reader = get_reader(str(tmp_path / "mr.nii.gz"))
    assert reader is not None
    ((data, options, _),) = reader(str(tmp_path / "mr.nii.gz"))
    viewer = ViewerModel()
    current = current_of(viewer)
    layer = viewer.add_image(data, **options)
    assert current.image is layer and 95 < layer.contrast_limits[0] < 110 and 490 < layer.contrast_limits[1] < 500
    assert layer.contrast_limits_range == [array.min(), 8000]
