"""What is chosen in the viewer, carried out: regions, results, refusals. No Qt."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes

from meduniseg_core.errors import CancelledError, UsageError
from meduniseg_core.events import CancelToken, Progress, ignore
from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.findings import Finding
from meduniseg_core.weights import Registry
from napari_meduniseg._compute_options import ComputeOptions
from napari_meduniseg._current import current_of
from napari_meduniseg._layer_input import snapshot_layers
from napari_meduniseg._layers import image_layers, is_derived
from napari_meduniseg._result_layers import add_results
from napari_meduniseg._segmentation_job import (
    Predictors,
    SegmentChoice,
    findings_for,
    forecast,
    look_at_image,
    modalities_for,
    prepare_job,
    run_job,
    run_times,
    tasks_for,
)
from napari_meduniseg._views import set_view, slice_axis


@pytest.fixture
def viewer(tiny_home: Path) -> ViewerModel:
    return ViewerModel()


FP32 = ComputeOptions(precision="fp32")
BOXES = ComputeOptions(precision="fp32", boxes=True)


def add_volume(viewer: ViewerModel, flipped: bool = False) -> ImageLayer:
    shape = (20, 36, 40)
    affine = np.array([[0, 0, 2.0, 5], [0, 2, 0, 6], [2, 0, 0, 7], [0, 0, 0, 1]])
    if flipped:
        affine[2, 0] = -2
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    image = Image(array, Geometry.from_affine(affine, shape), source=Path("mr.nii.gz"))
    data, options, _ = image_layers(image)[0]
    return viewer.add_image(data, **options)


def run(viewer: ViewerModel, **changes: object) -> list:
    layer = changes.pop("layer", None) or viewer.layers[0]
    choice = SegmentChoice(layers=(layer,), model="tiny", **{"tasks": ("organ",), "compute": FP32, **changes})  # type: ignore[arg-type]
    order = prepare_job(choice, viewer)
    return add_results(order, run_job(order, Predictors(), ignore, CancelToken()), viewer)


def test_only_what_fits_model_modality_and_dimension_is_offered(tiny_home: Path) -> None:
    info = Registry().info("tiny")
    assert modalities_for(info.tasks, info.modalities) == ["mri", "fundus"]
    assert [plan.task for plan in tasks_for(info.tasks, "mri", flat=False)] == ["organ", "vessel"]
    assert tasks_for(info.tasks, "mri", flat=True) == []
    assert [plan.task for plan in tasks_for(info.tasks, "fundus", flat=True)] == ["disc_cup"]


@pytest.mark.parametrize("flipped", [False, True])
def test_the_result_lies_on_the_image_with_names_and_colours(viewer: ViewerModel, flipped: bool) -> None:
    layer = add_volume(viewer, flipped)
    (labels,) = run(viewer)
    np.testing.assert_allclose(labels.data_to_world((1, 2, 3)), layer.data_to_world((1, 2, 3)))
    assert labels.units == layer.units and labels.data.shape == layer.data.shape
    assert list(labels.features["name"]) == ["background", "liver"]
    assert labels.metadata["meduniseg"]["provenance"]["task"] == "organ"
    assert labels.data.any() and labels.data.flags.writeable


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(("view", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_the_visible_slice_alone_is_segmented(viewer: ViewerModel, flipped: bool, view: str, axis: int) -> None:
    add_volume(viewer, flipped)
    (whole,) = run(viewer)
    set_view(viewer, view)  # type: ignore[arg-type]
    position = list(viewer.dims.point)
    position[axis] = viewer.layers[0].data_to_world(np.eye(3)[axis] * 9)[axis]
    viewer.dims.point = position
    (labels,) = run(viewer, region="slice")
    seen = [slice(None)] * 3
    seen[axis] = slice(9, 10)
    assert labels.data[tuple(seen)].any()
    # other windows meet there than in the whole volume: a few voxels of a random network tip over
    assert (labels.data[tuple(seen)] == whole.data[tuple(seen)]).mean() > 0.9
    rest = labels.data.copy()
    rest[tuple(seen)] = 0
    assert not rest.any()


@pytest.mark.parametrize("flipped", [False, True])
def test_a_rectangle_drawn_on_one_slice_is_a_box_through_the_volume(viewer: ViewerModel, flipped: bool) -> None:
    layer = add_volume(viewer, flipped)
    corners = [[4, 10, 12], [4, 10, 30], [4, 25, 30], [4, 25, 12]]
    shapes = viewer.add_shapes([corners], shape_type="rectangle", scale=layer.scale, translate=layer.translate)
    (labels,) = run(viewer, layer=layer, region="box", shapes=shapes)
    rows = np.argwhere(labels.data)
    assert rows.min(axis=0)[1] >= 10 and rows.max(axis=0)[1] <= 25
    assert rows.min(axis=0)[2] >= 12 and rows.max(axis=0)[2] <= 30
    assert rows.min(axis=0)[0] < 3 and rows.max(axis=0)[0] > 16


def test_probabilities_and_uncertainty_come_as_layers(viewer: ViewerModel) -> None:
    add_volume(viewer)
    run(viewer, compute=ComputeOptions(precision="fp32", probabilities=True))
    names = [layer.name for layer in viewer.layers]
    assert names == ["mr.nii.gz", "mr.nii.gz: organ: probability of liver", "mr.nii.gz: organ: uncertainty", names[-1]]
    uncertainty = viewer.layers[2].data
    assert uncertainty.min() >= 0 and uncertainty.max() <= 0.5 + 1e-3


@pytest.mark.parametrize("flipped", [False, True])
def test_lesions_come_as_boxes_that_enclose_their_labels(viewer: ViewerModel, flipped: bool) -> None:
    image = add_volume(viewer, flipped)
    (labels,) = run(viewer, compute=BOXES)
    boxes = viewer.layers[-1]
    assert boxes.name == "mr.nii.gz: organ: boxes" and (boxes.scale == image.scale).all()
    covered = np.zeros(labels.data.shape, dtype=bool)
    for rectangle in boxes.data:
        (depth,) = {int(place) for place in rectangle[:, 0]}
        low, high = rectangle[:, 1:].min(axis=0) + 0.5, rectangle[:, 1:].max(axis=0) + 0.5
        covered[depth, int(low[0]) : int(high[0]), int(low[1]) : int(high[1])] = True
    assert (labels.data > 0).any() and covered[labels.data > 0].all()
    # no slice, row or column of the union lies beside the labels
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        assert np.array_equal(covered.any(axis=others), (labels.data > 0).any(axis=others))
    assert set(boxes.features["class"]) == {"liver"} and boxes.features["score"].between(0, 1).all()


def test_boxes_follow_the_axis_that_the_viewer_slices_along(viewer: ViewerModel) -> None:
    add_volume(viewer)
    set_view(viewer, "sagittal")
    (labels,) = run(viewer, compute=BOXES)
    boxes = viewer.layers[-1]
    for view in ("sagittal", "coronal", "axial"):
        set_view(viewer, view)
        axis = slice_axis(boxes, viewer)
        for place in range(labels.data.shape[axis]):
            viewer.dims.set_point(axis, labels.data_to_world([place] * 3)[axis])
            assert len(boxes.data) == len(boxes.features) == len(boxes.edge_color)
            shown = sum(bool((one[:, axis] == place).all()) for one in boxes.data)
            assert np.count_nonzero(boxes._data_view._displayed) == shown
            assert shown or not labels.data.take(place, axis).any()
        assert len(set(boxes.edge_width)) == 1 and not boxes.face_color[:, 3].any()
        assert set(boxes.shape_type) == {"rectangle"} and len({tuple(colour) for colour in boxes.edge_color}) == 1
        covered = np.zeros(labels.data.shape, dtype=bool)
        for one in boxes.data:
            low, high = np.ceil(one.min(axis=0)).astype(int), np.floor(one.max(axis=0)).astype(int) + 1
            covered[tuple(map(slice, low, high))] = True
        assert covered[labels.data > 0].all()
    assert set(boxes.features["class"]) == {"liver"}
    boxes.data = [*boxes.data[1:]]
    kept = len(boxes.data)
    set_view(viewer, "coronal")
    assert len(boxes.data) == kept and (boxes.data[0][:, 0] == boxes.data[0][0, 0]).all()
    viewer.layers.remove(boxes)
    set_view(viewer, "axial")


def test_of_a_photograph_boxes_are_flat_and_each_task_has_its_own(viewer: ViewerModel) -> None:
    photograph = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = viewer.add_image(photograph, rgb=True, name="eye.png", scale=(0.5, 2.0), translate=(3, 4), rotate=30)
    (labels,) = run(viewer, tasks=("disc_cup",), compute=BOXES)
    boxes = viewer.layers[-1]
    assert isinstance(boxes, Shapes) and boxes.ndim == 2 and labels.data.any()
    covered = np.zeros(labels.data.shape, dtype=bool)
    for rectangle in boxes.data:
        (top, left), (bottom, right) = rectangle.min(axis=0) + 0.5, rectangle.max(axis=0) + 0.5
        covered[int(top) : int(bottom), int(left) : int(right)] = True
    assert covered[labels.data > 0].all()
    np.testing.assert_allclose(boxes.data_to_world((5, 6)), image.data_to_world((5, 6)))
    volume = add_volume(viewer)
    run(viewer, layer=volume, tasks=("organ", "vessel"), compute=BOXES)
    names = [layer.name for layer in viewer.layers if isinstance(layer, Shapes)]
    assert names == ["eye.png: disc_cup: boxes", "mr.nii.gz: organ: boxes", "mr.nii.gz: vessel: boxes"]
    assert {is_derived(layer) for layer in viewer.layers if isinstance(layer, Shapes)} == {True}


def test_a_second_run_replaces_the_task_s_boxes_unless_they_were_changed(viewer: ViewerModel) -> None:
    add_volume(viewer)
    run(viewer, tasks=("organ", "vessel"), compute=BOXES)
    organ, vessel = (layer for layer in viewer.layers if isinstance(layer, Shapes))
    run(viewer, compute=BOXES)
    now = [layer for layer in viewer.layers if isinstance(layer, Shapes)]
    assert organ not in now and vessel in now and len(now) == 2
    changed = now[-1]
    changed.data = [*changed.data[1:]]
    run(viewer, compute=BOXES)
    now = [layer for layer in viewer.layers if isinstance(layer, Shapes)]
    assert changed in now and vessel in now and len(now) == 3


def test_where_nothing_is_found_the_layer_of_boxes_is_empty(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=BOXES), viewer)
    outcome = run_job(order, Predictors(), ignore, CancelToken())
    add_results(order, outcome, viewer)
    nothing = replace(outcome, results={"organ": replace(outcome.results["organ"], instances=())})
    add_results(order, nothing, viewer)
    (boxes,) = (layer for layer in viewer.layers if isinstance(layer, Shapes))
    assert boxes.nshapes == 0 and boxes.ndim == 3 and boxes.name == "mr.nii.gz: organ: boxes"


def test_boxes_are_seen_with_their_image_alone(viewer: ViewerModel) -> None:
    image = add_volume(viewer)
    current = current_of(viewer)
    other = viewer.add_image(np.ones((6, 7, 8)), name="other")
    order = prepare_job(SegmentChoice(layers=(image,), tasks=("organ",), model="tiny", compute=BOXES), viewer)
    outcome = run_job(order, Predictors(), ignore, CancelToken())
    current.choose_image(other)
    with current.adding_to(image) as added:
        added += add_results(order, outcome, viewer)
    (boxes,) = (layer for layer in viewer.layers if isinstance(layer, Shapes))
    assert not boxes.visible and not added[0].visible  # the user has moved on
    current.choose_image(image)
    assert boxes.visible
    current.choose_image(other)
    assert not boxes.visible


def test_more_boxes_than_can_be_drawn_are_counted(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    add_volume(viewer)
    monkeypatch.setattr("napari_meduniseg._instance_boxes._MOST", 1)
    run(viewer, compute=BOXES)
    assert set(viewer.layers[-1].features["lesion"]) == {1}


def test_a_result_whose_layer_is_gone_is_dropped_and_a_renamed_one_found(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=FP32), viewer)
    outcome = run_job(order, Predictors(), ignore, CancelToken())
    layer.name = "other"
    viewer.layers.selection.clear()
    assert [added.name for added in add_results(order, outcome, viewer)] == ["other: organ"]
    viewer.layers.remove(layer)
    before = len(viewer.layers)
    assert add_results(order, outcome, viewer) == [] and len(viewer.layers) == before


def test_a_result_whose_layer_was_given_other_voxels_is_dropped(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=FP32), viewer)
    outcome = run_job(order, Predictors(), ignore, CancelToken())
    layer.data = np.zeros((5, 6, 7))
    assert add_results(order, outcome, viewer) == [] and len(viewer.layers) == 1


def test_running_twice_leaves_the_first_result_alone(viewer: ViewerModel) -> None:
    add_volume(viewer)
    (first,) = run(viewer)
    first.data[0, 0, 0] = 7
    (second,) = run(viewer)
    assert first.data[0, 0, 0] == 7 and second is not first and len(viewer.layers) == 3


def test_cancelling_stops_between_windows(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=FP32), viewer)
    token, seen = CancelToken(), []

    def stop(event: object) -> None:
        if isinstance(event, Progress):
            seen.append(event)
            token.cancel()

    with pytest.raises(CancelledError):
        run_job(order, Predictors(), stop, token)
    assert len(seen) == 1 and seen[0].done < seen[0].total


def test_the_forecast_tells_memory_and_a_range_of_time_before_the_first_run(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=FP32), viewer)
    found = forecast(order, Predictors())
    assert found.bytes > 0 and found.low is not None and found.high is not None and 0 < found.low < found.high
    assert "iB of memory" in found.text and " 0.0" not in found.text and "window" not in found.text


def test_what_is_missing_is_said(viewer: ViewerModel) -> None:
    with pytest.raises(UsageError, match="no image"):
        prepare_job(SegmentChoice(layers=(), tasks=("organ",)), viewer)
    layer = add_volume(viewer)
    with pytest.raises(UsageError, match="No task"):
        prepare_job(SegmentChoice(layers=(layer,), tasks=()), viewer)
    with pytest.raises(UsageError, match="no box"):
        prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), region="box"), viewer)
    viewer.dims.ndisplay = 3
    with pytest.raises(UsageError, match="2D"):
        prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), region="slice"), viewer)


def warnings_of(found: Mapping[str, Sequence[Finding]], tasks: list[str]) -> list[str]:
    return [finding.text for finding in findings_for((), found, tasks) if finding.level == "warning"]


def test_without_a_ticked_task_only_what_holds_for_every_task_is_said() -> None:
    both, one = Finding("no_orientation", "It has no orientation."), Finding("field_of_view", "It is too fine.")
    found = {"disc": (both,), "vessel": (both, one)}
    assert findings_for((), found, []) == (both,)
    assert findings_for((), found, ["vessel"]) == (both, one)


def test_a_grey_volume_is_no_photograph(viewer: ViewerModel) -> None:
    layer = add_volume(viewer)
    snapshots = snapshot_layers([layer])
    mr = Registry().info("tiny").plan_of("organ")
    ct = mr.model_copy(update={"task": "ct", "normalisation": ("ct",)})
    photograph = Registry().info("tiny").plan_of("disc_cup")
    found = look_at_image(snapshots, [mr, ct, photograph]).findings
    assert found["organ"] == ()
    assert ["Hounsfield" in text for text in warnings_of(found, ["organ", "ct"])] == [True]
    assert "grey" in warnings_of(found, ["disc_cup"])[0]


def test_two_tasks_on_one_image_share_no_colour_and_a_second_run_keeps_its_own(viewer: ViewerModel) -> None:
    def colours(labels: Labels) -> set[tuple[float, ...]]:
        names = labels.metadata["meduniseg"]["provenance"]["classes"]
        return {tuple(np.round(labels.get_color(int(label)), 3)) for label in names}

    add_volume(viewer)
    organ, vessel = run(viewer, tasks=("organ", "vessel"))
    assert colours(organ) and colours(vessel) and not colours(organ) & colours(vessel)
    (again,) = run(viewer, tasks=("vessel",))
    assert colours(again) == colours(vessel)


def test_the_time_that_is_said_is_that_of_all_tasks_and_is_remembered(viewer: ViewerModel, tiny_home: Path) -> None:
    layer = add_volume(viewer)
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ", "vessel"), model="tiny", compute=FP32), viewer)
    began, seen = time.perf_counter(), []
    outcome = run_job(order, Predictors(), seen.append, CancelToken())
    took = time.perf_counter() - began
    assert 0.5 * took < outcome.seconds <= took
    shares = [event.done / event.total for event in seen if isinstance(event, Progress)]
    assert shares == sorted(shares) and shares[-1] == 1
    (file,) = tiny_home.glob("run_times_*.json")
    ((_, remembered),) = json.loads(file.read_text())
    assert remembered == pytest.approx(outcome.seconds, abs=0.001) or remembered == 0.05 > outcome.seconds
    found = forecast(order, Predictors())
    assert found.estimate is not None and found.high is not None
    assert (found.low, found.high) == run_times(order.choice).expect(found.estimate)
    assert outcome.seconds < found.high  # whatever the pace is by now
