"""All 48 axis orientations, oblique ones included: in, canonical, back, written: nothing moves."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import (
    Geometry,
    Image,
    Reorientation,
    canonical_orientation,
    read_image,
    read_labels,
    reorient_to,
    write_labels,
)

ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
SPACINGS = [(0.7, 0.7, 5.0), (3.3, 1.1, 0.9), (1.25, 2.5, 0.8)]
SHAPE = (5, 6, 7)


def ras_affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], tilt: float = 0.0
) -> np.ndarray:
    rotation = np.zeros((3, 3))
    for axis, (row, sign) in enumerate(zip(order, signs, strict=True)):
        rotation[row, axis] = sign
    turn = Rotation.from_euler("xyz", [tilt, -tilt / 2, tilt / 3], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ rotation * np.asarray(spacing)
    affine[:3, 3] = (-91.5, 12.25, 300.125)
    return affine


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def world_of_peak(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return (affine @ [*np.unravel_index(array.argmax(), array.shape), 1])[:3]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_voxels_and_boxes_go_where_arrays_go(order: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    change, array = Reorientation(order, (signs[0] < 0, signs[1] < 0, signs[2] < 0)), voxels()
    turned = change.forward(array)
    there = change.forward_index((1, 4, 2), SHAPE)
    assert turned[there] == array[1, 4, 2] and change.inverse_index(there, SHAPE) == (1, 4, 2)
    many = np.nonzero(array > 0)
    assert np.array_equal(turned[change.forward_index(many, SHAPE)], array[many])
    box = (1, 3), (0, 4), (2, 5)
    back = change.inverse_box(box, SHAPE)
    part = array[tuple(slice(*span) for span in back)]
    assert np.array_equal(change.forward(part), turned[tuple(slice(*span) for span in box)])


@pytest.mark.parametrize("tilt", [0.0, 11.0])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_comes_back_exactly(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], tilt: float, tmp_path: Path
) -> None:
    affine = ras_affine(order, signs, spacing, tilt)
    data = voxels()
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "in.nii")
    image = read_image(tmp_path / "in.nii")

    canonical, change = canonical_orientation(image)
    direction = np.asarray(canonical.geometry.direction)
    for axis, row in enumerate((2, 1, 0)):
        assert direction[row, axis] == np.abs(direction[:, axis]).max() > 0
    # the brightest voxel is at the same place in the patient, by nibabel's affine (RAS) and by ours (LPS)
    expected = world_of_peak(data, affine) * (-1, -1, 1)
    np.testing.assert_allclose(world_of_peak(canonical.array[0], canonical.geometry.affine), expected, atol=1e-4)

    assert np.array_equal(change.inverse(canonical.array), image.array)
    labels = canonical.with_array((canonical.array > 200).astype(np.int64) * 3)
    write_labels(labels, tmp_path / "out.nii", like=image)
    written = nib.load(tmp_path / "out.nii")
    assert np.array_equal(np.asarray(written.dataobj), (data > 200) * 3)
    assert np.abs(written.affine - affine).max() <= 1e-5
    assert np.array_equal(written.affine, nib.load(tmp_path / "in.nii").affine)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_simpleitk_finds_our_labels_on_the_images_grid(
    order: tuple[int, ...], signs: tuple[int, ...], ending: str, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(voxels(), ras_affine(order, signs, SPACINGS[0], 7.0)), tmp_path / "in.nii")
    image = read_image(tmp_path / "in.nii")
    canonical, _ = canonical_orientation(image)
    write_labels(canonical.with_array((canonical.array > 0).astype(np.uint8)), tmp_path / f"out{ending}", like=image)
    source, written = sitk.ReadImage(str(tmp_path / "in.nii")), sitk.ReadImage(str(tmp_path / f"out{ending}"))
    np.testing.assert_allclose(written.GetOrigin(), source.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(written.GetSpacing(), source.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(written.GetDirection(), source.GetDirection(), atol=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(source) > 0)
    assert np.array_equal(read_labels(tmp_path / f"out{ending}").array, image.array > 0)


@settings(max_examples=80, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    mirrored=st.booleans(),
)
def test_any_rotation_is_undone_and_keeps_every_voxel_in_place(
    angles: tuple[float, ...], spacing: tuple[float, ...], shape: tuple[int, int, int], mirrored: bool
) -> None:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * ([1, 1, -1] if mirrored else [1, 1, 1])
    affine[:3, :3] = turn * np.asarray(spacing)
    array = np.arange(np.prod(shape)).reshape((1, *shape))
    image = Image(array, Geometry.from_affine(affine, shape))
    canonical, change = canonical_orientation(image)
    assert np.array_equal(change.inverse(canonical.array), array)
    for index in ((0, 0, 0), tuple(size - 1 for size in shape), (1, 0, shape[2] - 1)):
        place = affine @ [*index, 1]
        there = np.argwhere(canonical.array[0] == array[(0, *index)])[0]
        np.testing.assert_allclose(canonical.geometry.affine @ [*there, 1], place, atol=1e-9)
    again, nothing = canonical_orientation(canonical)
    assert nothing.is_identity
    assert again is canonical
    back = reorient_to(canonical, image.geometry)
    assert np.array_equal(back.array, array)
    assert back.geometry == image.geometry


def test_a_photograph_is_left_alone() -> None:
    image = Image(np.zeros((3, 1, 4, 5), np.uint8), Geometry((1, 4, 5), (1, 1, 1)), physical=False)
    same, change = canonical_orientation(image)
    assert same is image
    assert change == Reorientation()


def test_an_axial_slice_is_turned_within_its_plane_and_a_sagittal_one_has_its_head_up() -> None:
    axial = Geometry((1, 4, 5), (3, 1, 1), direction=((0, -1, 0), (0, 0, -1), (1, 0, 0)))
    turned, change = canonical_orientation(Image(np.arange(20).reshape(1, 1, 4, 5), axial))
    assert turned.geometry.shape == (1, 5, 4)
    assert change.flips == (False, True, True)
    sagittal = Geometry((1, 4, 5), (3, 1, 1), direction=((1, 0, 0), (0, 0, 1), (0, -1, 0)))
    image = Image(np.arange(20).reshape(1, 1, 4, 5), sagittal)
    assert canonical_orientation(image)[0] is image


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("normal", [0, 1], ids=["sagittal", "coronal"])
def test_a_single_slice_is_the_same_picture_however_it_is_stored(
    normal: int, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    """Of the patient's axes x, y, z (LPS) the slice has one voxel along ``normal``; h runs to the feet."""
    along = np.random.default_rng(0).integers(0, 99, tuple(1 if axis == normal else 4 + axis for axis in range(3)))
    stored = np.transpose(along, order)[tuple(slice(None, None, sign) for sign in signs)]
    direction = np.zeros((3, 3))
    for axis, (row, sign) in enumerate(zip(order, signs, strict=True)):
        direction[row, axis] = sign
    rows = tuple(tuple(float(value) for value in row) for row in direction)
    shape = (int(stored.shape[0]), int(stored.shape[1]), int(stored.shape[2]))
    image = Image(np.ascontiguousarray(stored[None]), Geometry(shape, (1, 1, 1), direction=rows))
    turned, change = canonical_orientation(image)
    assert np.array_equal(turned.array[0, 0], along.take(0, axis=normal).T[::-1])
    assert np.array_equal(change.inverse(turned.array), image.array)


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    image = Image(np.zeros((1, 4, 5, 6), np.int16), Geometry((4, 5, 6), (1, 1, 1)))
    shifted = Image(np.zeros((1, 4, 5, 6), np.uint8), Geometry((4, 5, 6), (1, 1, 1), origin=(0, 0, 0.5)))
    with pytest.raises(BadInputError, match="another grid"):
        write_labels(shifted, tmp_path / "x.nii.gz", like=image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("axes", list(permutations((0, 1, 2))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_a_voxel_is_found_where_its_array_goes(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    change, numbers = Reorientation(axes, flips), np.arange(5 * 6 * 7).reshape(5, 6, 7)
    for index in ((0, 0, 0), (4, 5, 6), (1, 4, 2)):
        assert change.forward(numbers)[change.forward_index(index, numbers.shape)] == numbers[index]
