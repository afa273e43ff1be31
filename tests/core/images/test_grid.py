"""One definition of one grid: 48 orientations, rounding, crops and margins; and labels put there exactly."""

from __future__ import annotations

from dataclasses import replace
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
    join_labels,
    place_labels,
    read_image,
    read_labels,
    same_grid,
    write_labels,
)
from meduniseg_core.images.grid import TOLERANCE, relate

CHANGES = [
    Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    for axes in permutations((0, 1, 2))
    for flips in product((False, True), repeat=3)
]
SHAPE = (5, 6, 7)


def oblique(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, ...] = (2.5, 0.8, 0.7)) -> Geometry:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [9.0, -4.0, 17.0], degrees=True).as_matrix()
    affine[:3, :3] = turn[:, ::-1] * np.asarray(spacing)
    affine[:3, 3] = (-91.5, 12.25, 300.125)
    return Geometry.from_affine(affine, shape)


def moved(
    geometry: Geometry, voxels: tuple[float, float, float], shape: tuple[int, int, int] | None = None
) -> Geometry:
    """The grid that begins at this (fractional) index of ``geometry``."""
    origin = (geometry.affine @ [*voxels, 1.0])[:3]
    return replace(geometry, origin=tuple(origin.tolist()), shape=shape or geometry.shape)


def ids(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (1, *shape)).astype(np.uint8)


def image_on(geometry: Geometry, **changes: object) -> Image:
    return replace(Image(np.zeros((1, *geometry.shape), np.int16), geometry, source=Path("ct.nii.gz")), **changes)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_same_voxels_in_any_axis_order_are_one_grid_and_come_back_exactly(change: Reorientation) -> None:
    grid, array = oblique(), ids()
    turned = Image(change.forward(array), change.forward_geometry(grid))
    placement = relate(turned.geometry, grid)
    assert placement.relation == ("same" if change.is_identity else "reordered")
    placed = place_labels(turned, image_on(grid))
    assert np.array_equal(placed.array, array) and placed.geometry == grid and placed.findings == ()
    # the same cropped: three orders of business at once
    part = Image(change.forward(array[:, 1:4, 2:6, 3:]), change.forward_geometry(moved(grid, (1, 2, 3), (3, 4, 4))))
    wanted = np.zeros_like(array)
    wanted[:, 1:4, 2:6, 3:] = array[:, 1:4, 2:6, 3:]
    placed = place_labels(part, image_on(grid))
    assert np.array_equal(placed.array, wanted) and placed.geometry == grid
    assert [finding.code for finding in placed.findings] == ["labels_placed"]


@settings(max_examples=150, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 12)] * 3),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    change=st.sampled_from(CHANGES),
    box=st.tuples(*[st.tuples(st.integers(0, 8), st.integers(1, 9))] * 3),
    mirrored=st.booleans(),
    noise=st.floats(0, 0.9),
)
def test_any_crop_of_any_grid_in_any_order_goes_back_where_it_was(
    angles: tuple[float, ...],
    spacing: tuple[float, ...],
    shape: tuple[int, int, int],
    change: Reorientation,
    box: tuple[tuple[int, int], ...],
    mirrored: bool,
    noise: float,
) -> None:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * ([1, 1, -1] if mirrored else [1, 1, 1])
    affine[:3, :3], affine[:3, 3] = turn * np.asarray(spacing), (40.0, -7.5, 1000.0)
    grid = Geometry.from_affine(affine, shape)
    low = [min(start, n - 1) for (start, _), n in zip(box, shape, strict=True)]
    high = [min(a + length, n) for a, (_, length), n in zip(low, box, shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    array = np.random.default_rng(0).integers(1, 5, (1, *shape)).astype(np.uint8)
    size = tuple(b - a for a, b in zip(low, high, strict=True))
    cropped = moved(grid, (low[0], low[1], low[2]), (size[0], size[1], size[2]))
    # rounding of the header moves it by less than the tolerance
    edge = min([step for step, n in zip(spacing, shape, strict=True) if n > 1] or spacing)
    step = noise * TOLERANCE * edge * np.array([0.6, 0.0, 0.8])
    cropped = replace(cropped, origin=tuple((np.asarray(cropped.origin) + step).tolist()))
    labels = Image(change.forward(array[:, *inside]), change.forward_geometry(cropped))
    placed = place_labels(labels, image_on(grid))
    wanted = np.zeros_like(array)
    wanted[:, *inside] = array[:, *inside]
    assert np.array_equal(placed.array, wanted)
    assert placed.geometry == grid


@settings(max_examples=100, deadline=None)
@given(
    part=st.floats(0.06, 0.94), axis=st.integers(0, 2), steps=st.integers(-3, 3), change=st.sampled_from(CHANGES)
)  # fmt: skip
def test_a_shift_by_parts_of_a_voxel_is_another_grid(part: float, axis: int, steps: int, change: Reorientation) -> None:
    grid = Geometry(SHAPE, (1.5, 1.5, 1.5), (3.0, 4.0, 5.0))
    shift = [0.0, 0.0, 0.0]
    shift[axis] = steps + part
    elsewhere = change.forward_geometry(moved(grid, (shift[0], shift[1], shift[2])))
    assert relate(elsewhere, grid).relation == "other"
    with pytest.raises(BadInputError, match=r"another grid .* mm away") as raised:
        place_labels(Image(np.zeros((1, *elsewhere.shape), np.uint8), elsewhere, source=Path("l.nrrd")), image_on(grid))
    assert "l.nrrd" in str(raised.value) and "ct.nii.gz" in str(raised.value)


def test_the_tolerance_counts_at_the_far_corner_not_in_the_matrix() -> None:
    # 0.009 mm on an entry of the matrix is 4.6 mm at the 512th voxel
    scan = Geometry((40, 512, 512), (5.0, 0.7, 0.7))
    assert not same_grid(scan, replace(scan, spacing=(5.0, 0.709, 0.7)))
    assert not same_grid(scan, replace(scan, spacing=(5.0, 0.7001, 0.7)))  # 0.05 mm: more than 1/20 of 0.7
    assert same_grid(scan, replace(scan, spacing=(5.0, 0.70005, 0.7)))
    tilted = Rotation.from_euler("z", 0.5, degrees=True).as_matrix() @ np.asarray(scan.direction)
    assert not same_grid(scan, replace(scan, direction=tuple(map(tuple, tilted.tolist()))))


def test_a_few_micrometres_are_nothing_and_the_limit_is_a_part_of_the_smallest_edge() -> None:
    scan = Geometry((40, 512, 512), (5.0, 0.7, 0.7), (-180.0, -170.0, 20.0))
    assert same_grid(scan, replace(scan, origin=(-180.004, -170.0, 20.004)))
    assert same_grid(scan, replace(scan, origin=(-180.03, -170.0, 20.0)))
    assert not same_grid(scan, replace(scan, origin=(-180.04, -170.0, 20.0)))
    microscope = Geometry((1, 512, 512), (1.0, 0.0005, 0.0005))
    assert not same_grid(microscope, replace(microscope, origin=(0.004, 0.0, 0.0)))
    # the thickness of a single slice is often a guess
    assert same_grid(microscope, replace(microscope, spacing=(7.0, 0.0005, 0.0005)))


def test_a_slice_of_another_thickness_is_no_slice_of_the_volume() -> None:
    volume = Geometry((9, 6, 7), (1.0, 0.7, 0.7))
    thin, thick = (Geometry((1, 6, 7), (step, 0.7, 0.7), (0.0, 0.0, 3.0)) for step in (1.0, 5.0))
    assert relate(thin, volume).shift == (3, 0, 0)
    assert relate(thick, volume).relation == "other"


def test_what_lies_outside_the_image_is_refused_if_it_is_marked() -> None:
    grid, array = oblique(), ids()
    wide = np.pad(array, ((0, 0), (2, 1), (0, 3), (1, 0)))
    margin = Image(wide, moved(grid, (-2, 0, -1), wide.shape[1:]), source=Path("wide.nrrd"))
    placed = place_labels(margin, image_on(grid))
    assert np.array_equal(placed.array, array)
    marked = wide.copy()
    marked[0, 0, :2, :2] = 3
    with pytest.raises(BadInputError, match=r"wide\.nrrd marks 4 voxels outside ct\.nii\.gz .* \(-2, 0, -1\)"):
        place_labels(margin.with_array(marked), image_on(grid))
    beside = Image(np.zeros_like(array), moved(grid, (5, 0, 0)), source=Path("beside.nrrd"))
    with pytest.raises(BadInputError, match=r"beside\.nrrd lies outside ct\.nii\.gz"):
        place_labels(beside, image_on(grid))


def test_pictures_are_compared_by_their_pixels() -> None:
    flat = Geometry((1, 6, 7), (1.0, 1.0, 1.0))
    picture = image_on(flat, physical=False, source=Path("p.png"))
    labels = Image(ids((1, 6, 7)), flat, physical=False, source=Path("m.png"))
    assert place_labels(labels, picture).findings == ()
    with pytest.raises(BadInputError, match=r"m\.png .*1x7x6.* p\.png .*1x6x7"):
        place_labels(Image(ids((1, 7, 6)), Geometry((1, 7, 6), (1.0,) * 3), False, Path("m.png")), picture)


def test_a_pair_of_which_one_has_no_place_in_the_patient_is_taken_by_its_size_and_that_is_said() -> None:
    grid, array = oblique(), ids()
    unplaced = Image(array, Geometry(SHAPE, (1.0, 1.0, 1.0)), physical=False, source=Path("m.npy"))
    placed = place_labels(unplaced, image_on(grid))
    assert placed.geometry == grid and placed.physical and np.array_equal(placed.array, array)
    (finding,) = placed.findings
    assert finding.code == "grid_not_comparable" and finding.level == "warning"
    assert finding.text.startswith("m.npy does not say where")
    with pytest.raises(BadInputError, match=r"m\.npy .*another grid"):
        place_labels(Image(array[:, 1:], Geometry((4, 6, 7), (1.0,) * 3), False, Path("m.npy")), image_on(grid))


def test_where_a_file_does_not_say_its_orientation_size_and_spacing_decide_and_that_is_said() -> None:
    grid, array = Geometry(SHAPE, (2.5, 0.8, 0.7), (9.0, 9.0, 9.0)), ids()
    guessed = Geometry(SHAPE, (2.5, 0.8, 0.7))
    unknown = Image(array, guessed, source=Path("m.nii"), meta={"orientation_known": False})
    placed = place_labels(unknown, image_on(grid))
    assert placed.geometry == grid and np.array_equal(placed.array, array)
    assert [finding.code for finding in placed.findings] == ["grid_not_comparable"]
    assert place_labels(replace(unknown, geometry=grid), image_on(grid)).findings == ()
    # a crop cannot be put anywhere: where it begins is a guess
    with pytest.raises(BadInputError, match=r"m\.nii does not say its orientation"):
        place_labels(replace(unknown, array=array[:, 1:], geometry=replace(guessed, shape=(4, 6, 7))), image_on(grid))
    with pytest.raises(BadInputError, match="does not say its orientation"):
        place_labels(replace(unknown, geometry=replace(guessed, spacing=(2.4, 0.8, 0.7))), image_on(grid))


def test_two_crops_of_one_image_meet_on_the_smallest_grid_that_holds_both() -> None:
    grid, array = oblique((12, 12, 12)), np.zeros((1, 12, 12, 12), np.uint8)
    array[0, 2:6, 3:9, 4:7] = 1
    one = Image(array[:, 1:7, 3:9, 2:8], moved(grid, (1, 3, 2), (6, 6, 6)))
    two = Image(array[:, 2:10, 0:5, 4:12], moved(grid, (2, 0, 4), (8, 5, 8)))
    first, second = join_labels(one, two)
    assert first.geometry == second.geometry and first.geometry.shape == (9, 9, 10)
    assert first.array.sum() == one.array.sum() and second.array.sum() == two.array.sum()
    inside = array[0, 1:10, 0:9, 2:12]
    assert np.array_equal(first.array[0], inside)  # the first crop lost nothing
    both = first.array & second.array
    assert both.sum() == array[0, 2:7, 3:5, 4:8].sum()
    again, same = join_labels(two, one)
    assert again.geometry.shape == same.geometry.shape == (9, 9, 10)


def test_label_maps_that_no_image_holds_together_are_refused() -> None:
    grid = Geometry(SHAPE, (1.0, 1.0, 1.0))
    far = Image(ids(), moved(grid, (2000, 3000, 5000)))
    with pytest.raises(BadInputError, match="too far apart"):
        join_labels(far, Image(ids(), grid))
    with pytest.raises(BadInputError, match="another grid"):
        join_labels(Image(ids(), moved(grid, (0.5, 0, 0))), Image(ids(), grid))


def test_channels_in_another_axis_order_are_turned(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-99, 99, (7, 6, 5)).astype(np.int16)
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "a.nii")
    other = np.diag([-0.7, -0.8, 2.5, 1.0])
    other[:3, 3] = (6 * 0.7 + 0.004, 5 * 0.8, 0.0)  # and four micrometres off
    nib.save(nib.Nifti1Image((data + 1)[::-1, ::-1], other), tmp_path / "b.nii")
    image = read_image([tmp_path / "a.nii", tmp_path / "b.nii"])
    assert np.array_equal(image.array[1], image.array[0] + 1)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_a_crop_by_simpleitk_is_put_back(ending: str, tmp_path: Path) -> None:
    """A further program's crop, and its header's rounding."""
    array = ids((12, 20, 16))
    grid = oblique((12, 20, 16))
    write_labels(Image(array, grid), tmp_path / f"whole{ending}")
    whole = sitk.ReadImage(str(tmp_path / f"whole{ending}"))
    sitk.WriteImage(whole[3:11, 4:18, 5:9], str(tmp_path / f"part{ending}"))
    image = read_image(tmp_path / f"whole{ending}")
    placed = place_labels(read_labels(tmp_path / f"part{ending}"), image)
    wanted = np.zeros_like(array)
    wanted[:, 5:9, 4:18, 3:11] = array[:, 5:9, 4:18, 3:11]
    assert np.array_equal(placed.array, wanted) and placed.geometry == image.geometry


def test_a_cropped_map_is_written_on_the_images_grid(tmp_path: Path) -> None:
    grid, array = oblique(), ids()
    part = Image(array[:, 1:4, 2:6, 3:], moved(grid, (1, 2, 3), (3, 4, 4)))
    write_labels(part, tmp_path / "x.nii.gz", like=image_on(grid))
    written = read_labels(tmp_path / "x.nii.gz")
    assert same_grid(written.geometry, grid) and np.array_equal(written.array[:, 1:4, 2:6, 3:], part.array)
    assert written.array.sum() == part.array.sum()


@pytest.mark.parametrize(
    ("shift", "shape", "level"),
    [((1, 1, 1), (3, 4, 4), "info"), ((-1, -1, -1), (9, 10, 12), "info"), ((-1, 1, 0), (9, 4, 6), "warning")],
    ids=["a part", "larger all round", "neither"],
)
def test_labels_that_reach_beyond_the_image_and_fall_short_of_it_are_doubted(
    shift: tuple[int, int, int], shape: tuple[int, int, int], level: str
) -> None:
    grid = oblique()
    labels = Image(np.zeros((1, *shape), np.uint8), moved(grid, shift, shape))
    (finding,) = place_labels(labels, image_on(grid)).findings
    assert (finding.code, finding.level) == ("labels_placed", level)
