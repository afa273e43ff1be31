"""What the network sees of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import Event, Message
from meduniseg_core.images import Geometry, Image
from meduniseg_core.preprocessing import TaskPlan, preprocess, preprocess_labels

MakePlan = Callable[..., TaskPlan]
MakeImage = Callable[..., Image]
COLOUR: dict[str, Any] = {
    "dimension": 2, "longest_side": 64, "patch": (1, 32, 32), "channels": ("R", "G", "B"), "crop_to_body": False,
    "normalisation": ("none",) * 3, "figures": (None,) * 3,
}  # fmt: skip
GREY: dict[str, Any] = {**COLOUR, "channels": ("ultrasound",), "normalisation": ("none",), "figures": (None,)}


def test_ct_is_clipped_and_standardised_with_the_data_sets_figures(
    make_plan_of: MakePlan, make_volume: MakeImage
) -> None:
    figures = {"mean": 100.0, "std": 50.0, "percentile_00_5": 0.0, "percentile_99_5": 200.0}
    plan = make_plan_of(normalisation=("ct",), figures=(figures,), crop_to_body=False)
    array = np.array([-1000, 0, 100, 150, 3000], dtype=np.int16).reshape(5, 1, 1)
    data = preprocess(make_volume(array), plan).data
    assert data.dtype == np.float32
    np.testing.assert_allclose(data.ravel(), [-2, -2, 0, 1, 2], atol=1e-6)


def test_z_scores_are_per_image_and_channel(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    plan = make_plan_of(channels=("T1", "T2"), normalisation=("zscore",) * 2, figures=(None,) * 2)
    array = np.random.default_rng(0).normal([[[[30]]], [[[5000]]]], [[[[2]]], [[[900]]]], (2, 8, 9, 10))
    data = preprocess(make_volume(array), plan).data
    np.testing.assert_allclose(data.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(data.std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_a_constant_image_becomes_zero(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    data = preprocess(make_volume(np.full((4, 5, 6), 7.0)), make_plan_of(normalisation=("zscore",))).data
    assert np.array_equal(data, np.zeros((1, 4, 5, 6)))


@pytest.mark.parametrize("kind", ["zscore", "rescale01"])
def test_small_units_do_not_empty_an_image(make_plan_of: MakePlan, make_volume: MakeImage, kind: str) -> None:
    """Diffusion in m²/s is about 1e-9: nnU-Net's least divisor, 1e-8, would leave nothing of it."""
    plan = make_plan_of(normalisation=(kind,))
    array = np.random.default_rng(0).normal(1, 0.3, (6, 7, 8)).astype(np.float32)
    wanted = preprocess(make_volume(array), plan).data
    for unit in (1e-9, 1e-12):
        data = preprocess(make_volume(array * np.float32(unit)), plan).data
        np.testing.assert_allclose(data, wanted, atol=1e-4)
    nothing = preprocess(make_volume(np.full((4, 5, 6), 1e-9, np.float32)), plan).data
    assert np.abs(nothing).max() < 1e-6  # rounding is not made an image


def test_masked_z_scores_leave_the_background_at_zero(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    array = np.full((12, 12, 12), -0.5)
    array[3:9, 3:9, 3:9] = np.random.default_rng(0).normal(40, 3, (6, 6, 6))
    array[5, 5, 5] = -0.5  # enclosed: not background
    made = preprocess(make_volume(array), make_plan_of(normalisation=("zscore_nonzero",)))
    assert made.trace.box == ((1, 11), (1, 11), (1, 11))
    brain = made.data[0, 2:8, 2:8, 2:8]
    assert brain.mean() == pytest.approx(0, abs=1e-5)
    assert brain.std() == pytest.approx(1, abs=1e-5)
    assert brain[2, 2, 2] < -3
    assert (made.data[0, :2] == 0).all() and (made.data[0, :, 8:] == 0).all()


def test_the_crop_never_loses_labels_in_training(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    array = np.zeros((16, 16, 16))
    array[6:10, 6:10, 6:10] = 1
    labels = np.zeros((16, 16, 16), dtype=np.uint8)
    labels[7, 7, 1] = 1
    heard: list[Event] = []
    image, drawn = make_volume(array), make_volume(labels)
    made = preprocess(image, make_plan_of(), keep=drawn, events=heard.append)
    assert made.trace.box == ((4, 12), (4, 12), (1, 12))
    assert preprocess_labels(drawn, made.trace).sum() == 1
    assert any(isinstance(event, Message) and "widened" in event.text for event in heard)


def test_the_grid_has_the_tasks_spacing_and_the_boxs_extent(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    image = make_volume(np.ones((10, 20, 30)), (2.0, 1.0, 0.5), origin=(7.0, 8.0, 9.0))
    grid = preprocess(image, make_plan_of(spacing=(4.0, 2.0, 1.5))).trace.grid
    assert grid.shape == (5, 10, 10)
    assert grid.spacing == pytest.approx((4.0, 2.0, 1.5))
    # the first voxel's centre is half a voxel inside the same corner
    assert grid.origin == pytest.approx((7.0 - 0.25 + 0.75, 8.0 - 0.5 + 1.0, 9.0 - 1.0 + 2.0))


def test_the_long_side_of_photographs_is_scaled_up_and_down(make_plan_of: MakePlan, make_photograph: MakeImage) -> None:
    plan = make_plan_of(**COLOUR)
    big = preprocess(make_photograph(np.zeros((3, 90, 128), np.uint8)), plan)
    small = preprocess(make_photograph(np.zeros((3, 32, 24), np.uint8)), plan)
    assert big.data.shape == (3, 1, 45, 64)
    assert small.data.shape == (3, 1, 64, 48)


def test_photographs_are_not_cropped(make_plan_of: MakePlan, make_photograph: MakeImage) -> None:
    fundus = np.zeros((3, 64, 64), np.uint8)
    fundus[:, 20:40, 20:40] = 200
    assert preprocess(make_photograph(fundus), make_plan_of(**COLOUR)).trace.box == ((0, 1), (0, 64), (0, 64))


def test_a_grey_image_serves_a_colour_task_and_says_so(make_plan_of: MakePlan, make_photograph: MakeImage) -> None:
    heard: list[Event] = []
    grey = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    data = preprocess(make_photograph(grey), make_plan_of(**COLOUR), events=heard.append).data
    assert data.shape == (3, 1, 64, 64)
    assert all(np.array_equal(channel[0], grey) for channel in data)
    assert [event.text for event in heard if isinstance(event, Message) and "three times" in event.text]


def test_a_colour_image_serves_a_one_channel_task_by_its_luminance(
    make_plan_of: MakePlan, make_photograph: MakeImage
) -> None:
    heard: list[Event] = []
    colour = np.zeros((3, 64, 64), np.uint8)
    colour[0], colour[1, :32] = 100, 200
    data = preprocess(make_photograph(colour), make_plan_of(**GREY), events=heard.append).data
    assert data[0, 0, 0, 0] == pytest.approx(0.299 * 100 + 0.587 * 200, abs=1e-3)
    assert data[0, 0, 63, 0] == pytest.approx(29.9, abs=1e-3)
    assert [event.text for event in heard if isinstance(event, Message) and "luminance" in event.text]


def test_three_equal_channels_are_grey(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    heard: list[Event] = []
    grey = np.random.default_rng(0).normal(size=(8, 32, 32))
    three = preprocess(make_volume(np.stack([grey] * 3)), make_plan_of(), events=heard.append)
    assert np.array_equal(three.data, preprocess(make_volume(grey), make_plan_of()).data)
    assert [event.text for event in heard if isinstance(event, Message) and "three equal channels" in event.text]


def test_other_channel_counts_are_refused(
    make_plan_of: MakePlan, make_photograph: MakeImage, make_volume: MakeImage
) -> None:
    with pytest.raises(BadInputError, match=r"has 2 channel\(s\) and task organ takes 3 \(R, G, B\)"):
        preprocess(make_photograph(np.zeros((2, 8, 8))), make_plan_of(**COLOUR))
    with pytest.raises(BadInputError, match=r"has 3 channel\(s\) and task organ takes 1"):
        preprocess(make_volume(np.arange(3 * 8**3, dtype=float).reshape(3, 8, 8, 8)), make_plan_of())
    two = make_plan_of(channels=("T1", "T2"), normalisation=("none",) * 2, figures=(None,) * 2)
    with pytest.raises(BadInputError, match=r"has 1 channel\(s\) and task organ takes 2 \(T1, T2\)"):
        preprocess(make_volume(np.zeros((8, 8, 8))), two)


def test_dimensions_must_agree(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    flat = make_plan_of(dimension=2, patch=(1, 32, 32))
    with pytest.raises(BadInputError, match="volume of 8 slices"):
        preprocess(make_volume(np.zeros((8, 9, 9))), flat)
    with pytest.raises(BadInputError, match="is a 2D image"):
        preprocess(make_volume(np.zeros((1, 9, 9))), make_plan_of())


def test_a_photograph_has_no_millimetres(make_plan_of: MakePlan, make_photograph: MakeImage) -> None:
    with pytest.raises(BadInputError, match="no voxel size"):
        preprocess(make_photograph(np.zeros((9, 9))), make_plan_of(dimension=2, patch=(1, 32, 32)))


def test_a_single_slice_keeps_its_depth(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    plan = make_plan_of(dimension=2, patch=(1, 32, 32), spacing=(1.0, 2.0, 2.0))
    made = preprocess(make_volume(np.ones((1, 40, 60)), (5.0, 1.0, 1.0)), plan)
    assert made.trace.grid.shape == (1, 20, 30)
    assert made.trace.grid.spacing == (5.0, 2.0, 2.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e30])
def test_values_that_are_not_finite_are_refused(make_plan_of: MakePlan, make_volume: MakeImage, bad: float) -> None:
    array = np.zeros((4, 5, 6))
    array[1, 2, 3] = bad
    with pytest.raises(BadInputError, match="not finite"):
        preprocess(make_volume(array), make_plan_of())


def test_sheared_grids_are_refused(make_plan_of: MakePlan) -> None:
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0.2, 0, 0], [0, 0, 0, 1]], dtype=float)
    image = Image(np.zeros((1, 4, 5, 6)), Geometry.from_affine(affine, (4, 5, 6)))
    with pytest.raises(BadInputError, match="right angles"):
        preprocess(image, make_plan_of())


def test_labels_of_another_grid_are_refused(make_plan_of: MakePlan, make_volume: MakeImage) -> None:
    trace = preprocess(make_volume(np.ones((4, 5, 6))), make_plan_of()).trace
    with pytest.raises(BadInputError, match=r"another grid \(4x5x7 voxels"):
        preprocess_labels(make_volume(np.zeros((4, 5, 7), np.uint8), (1.0, 1.0, 0.8)), trace)
    with pytest.raises(BadInputError, match="marks 20 voxels outside"):
        preprocess_labels(make_volume(np.ones((4, 5, 7), np.uint8)), trace)
    with pytest.raises(BadInputError, match="mm away"):
        preprocess_labels(make_volume(np.zeros((4, 5, 6), np.uint8), origin=(0.5, 0.0, 0.0)), trace)
    with pytest.raises(BadInputError, match="from 0 to 255"):
        preprocess_labels(make_volume(np.full((4, 5, 6), 256, np.int16)), trace)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_blob_stays_where_it_is_in_the_patient(data: st.DataObject) -> None:
    from scipy.spatial.transform import Rotation

    spacing = data.draw(st.tuples(*[st.floats(0.5, 2.5)] * 3))
    target = data.draw(st.tuples(*[st.floats(0.5, 2.5)] * 3))
    turn = Rotation.from_euler("xyz", data.draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    shape = tuple(max(4, round(45 / step)) for step in spacing)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = data.draw(st.tuples(*[st.floats(-200, 200)] * 3))
    geometry = Geometry.from_affine(affine, (shape[0], shape[1], shape[2]))
    centre = affine @ [*(data.draw(st.floats(0.4, 0.6)) * n for n in shape), 1.0]
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    blob = np.exp(-((places - centre[:3]) ** 2).sum(axis=-1) / (2 * 5.0**2))
    plan = TaskPlan(
        task="t", modality="mri", dimension=3, channels=("a",), classes=("b",), spacing=target,
        patch=(16, 32, 32), normalisation=("none",), figures=(None,),
    )  # fmt: skip
    made = preprocess(Image(blob[None], geometry), plan)
    weights = np.clip(made.data[0], 0, None).astype(np.float64)
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)]
    found = made.trace.grid.affine @ [*index, 1.0]
    apart = np.linalg.norm(found[:3] - centre[:3])
    assert apart < 0.5 * max(*spacing, *target)
    assert np.allclose(np.array(made.trace.grid.direction).T @ np.array(made.trace.grid.direction), np.eye(3))


@pytest.mark.parametrize(
    ("meta", "remedy"),
    [
        ({"format": "dicom", "orientation_known": True}, "give the folder of its series, with all slices"),
        ({"format": "dicom", "orientation_known": False}, "give a volume"),
        ({"format": "png"}, "give a volume"),
    ],
)
def test_a_slice_for_a_task_of_volumes_is_told_what_to_give(
    meta: dict[str, Any], remedy: str, make_plan_of: Callable[..., TaskPlan]
) -> None:
    image = Image(np.zeros((1, 1, 40, 40), np.float32), Geometry((1, 40, 40), (3.0, 1.0, 1.0)), meta=meta)
    with pytest.raises(BadInputError, match=f"the image is a 2D image and task organ takes volumes; {remedy}"):
        preprocess(image, make_plan_of())
