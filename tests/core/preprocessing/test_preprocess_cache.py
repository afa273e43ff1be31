"""Preprocessed cases on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, CancelledError
from meduniseg_core.events import CancelToken, Event, Message, Progress
from meduniseg_core.files import atomic_path
from meduniseg_core.images import Geometry, Image, write_image, write_labels
from meduniseg_core.preprocessing import RawDataset, TaskPlan, case_seed, check_dataset, make_plan, preprocess_dataset

MakeDataset = Callable[..., Path]
CtCase = Callable[..., tuple[list[Image], Image]]


@pytest.fixture
def dataset(make_dataset: MakeDataset, ct_case: CtCase) -> RawDataset:
    folder = make_dataset({"b": ct_case(1), "a": ct_case(0)}, patient_of={"a": "P1", "b": "P1"})
    return RawDataset.open(folder)


@pytest.fixture
def plan(dataset: RawDataset) -> TaskPlan:
    return make_plan(dataset)


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in _entries(folder)}


def _entries(folder: Path) -> list[Path]:
    """The files of a cache's folder; its hidden mark says whose the folder is."""
    return sorted(path for path in folder.iterdir() if path.name != ".meduniseg-cache")


def test_cases_are_stored_as_the_network_takes_them(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert [case.case for case in cached] == ["a", "b"]
    assert len(cached) == 2
    assert cached.task == plan.task
    case = cached.cases[0]
    assert case.patient == "P1"
    assert case.shape == (12, 30, 38)
    assert case.data.shape == (1, 12, 30, 38)
    assert case.data.dtype == np.float16
    assert isinstance(case.data, np.memmap)
    assert case.seg.shape == (12, 30, 38)
    assert case.seg.dtype == np.uint8
    assert case.counts == {0: 12 * 30 * 38 - 600, 1: 600 - 24, 2: 24}


def test_foreground_coordinates_are_of_their_class(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    for case in preprocess_dataset(dataset, plan, tmp_path / "cache"):
        for label, points in case.foreground.items():
            assert points.dtype == np.int32
            assert len(points) == case.counts[label]
            assert (np.asarray(case.seg)[tuple(points.T)] == label).all()


def test_at_most_ten_thousand_coordinates_are_kept_and_the_same_every_time(
    tmp_path: Path, make_dataset: MakeDataset, make_volume: Callable[..., Image]
) -> None:
    array = np.random.default_rng(0).normal(size=(24, 32, 32)).astype(np.float32)
    labels = make_volume((array > 0).astype(np.uint8))
    dataset = RawDataset.open(make_dataset({"a": ([make_volume(array)], labels)}, modality="mri"))
    plan = make_plan(dataset)
    first = preprocess_dataset(dataset, plan, tmp_path / "one").cases[0]
    again = preprocess_dataset(dataset, plan, tmp_path / "two").cases[0]
    other = preprocess_dataset(dataset, plan, tmp_path / "three", seed=1).cases[0]
    assert len(first.foreground[1]) == 10_000 < first.counts[1]
    assert len(np.unique(first.foreground[1], axis=0)) == 10_000
    assert np.array_equal(first.foreground[1], again.foreground[1])
    assert not np.array_equal(first.foreground[1], other.foreground[1])
    assert first.foreground[2].shape == (0, 3)


def test_what_still_fits_is_kept(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    before = _times(cached.folder)
    other_patch = plan.model_copy(update={"patch": (32, 64, 64), "batch": 7, "title": "x", "mirror_axes": ()})
    assert preprocess_dataset(dataset, other_patch, tmp_path / "cache").plan == other_patch
    assert _times(cached.folder) == before


def test_a_changed_plan_rebuilds_everything(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    preprocess_dataset(dataset, plan, tmp_path / "cache")
    coarser = plan.model_copy(update={"spacing": (6.0, 2.0, 2.0)})
    shapes = [case.data.shape for case in preprocess_dataset(dataset, coarser, tmp_path / "cache")]
    assert shapes == [(1, 6, 15, 19)] * 2


def test_another_storage_rebuilds(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    preprocess_dataset(dataset, plan, tmp_path / "cache")
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache", storage="float32")
    assert cached.cases[0].data.dtype == np.float32


def test_a_corrected_label_rebuilds_its_case_only(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan, ct_case: CtCase
) -> None:
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    before = _times(cached.folder)
    labels = ct_case(0)[1]
    corrected = labels.array.copy()
    corrected[corrected == 2] = 1
    write_labels(labels.with_array(corrected), dataset.folder / "labelsTr" / "a.nii.gz")
    again = preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert again.cases[0].counts[2] == 0
    after = _times(again.folder)
    assert {name for name in after if after[name] != before[name]} == {"a.npy", "a_seg.npy", "a.json"}


@pytest.mark.parametrize("name", ["a.npy", "a_seg.npy", "a.json"])
def test_damaged_entries_are_rebuilt(tmp_path: Path, dataset: RawDataset, plan: TaskPlan, name: str) -> None:
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    wanted = np.array(cached.cases[0].data)
    path = cached.folder / name
    path.write_bytes(path.read_bytes()[:200])
    again = preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert np.array_equal(again.cases[0].data, wanted)
    assert again.cases[0].seg.shape == wanted.shape[1:]


def test_two_processes_make_the_same(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    one = preprocess_dataset(dataset, plan, tmp_path / "one")
    two = preprocess_dataset(dataset, plan, tmp_path / "two", parallel=2)
    for here, there in zip(one, two, strict=True):
        assert here.record == there.record
        np.testing.assert_allclose(here.data, there.data, atol=2e-3)
        assert np.array_equal(here.seg, there.seg)


def test_progress_and_messages_are_heard(tmp_path: Path, dataset: RawDataset, plan: TaskPlan) -> None:
    heard: list[Event] = []
    preprocess_dataset(dataset, plan, tmp_path / "cache", heard.append)
    steps = [(event.done, event.total) for event in heard if isinstance(event, Progress)]
    assert steps == [(1, 2), (2, 2)]


def test_it_stops_on_request_and_leaves_no_half_written_files(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan
) -> None:
    token = CancelToken()
    with pytest.raises(CancelledError):
        preprocess_dataset(dataset, plan, tmp_path / "cache", lambda _: token.cancel(), token)
    assert [path.name for path in _entries(tmp_path / "cache" / plan.task)] == ["a.json", "a.npy", "a_seg.npy"]


def test_labels_the_plan_does_not_know_are_named(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan, ct_case: CtCase
) -> None:
    labels = ct_case(0)[1]
    write_labels(labels.with_array(labels.array + 2), dataset.folder / "labelsTr" / "a.nii.gz")
    with pytest.raises(BadInputError, match=r"a\.nii\.gz holds label ids that dataset\.json does not name \(3, 4\)"):
        preprocess_dataset(dataset, plan, tmp_path / "cache")


def test_cases_without_labels_are_refused_as_check_refuses_them(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan
) -> None:
    (dataset.folder / "labelsTr" / "a.nii.gz").unlink()
    (problem,) = check_dataset(dataset)
    with pytest.raises(BadInputError) as raised:
        preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert str(raised.value) == problem and "labelsTr/a.nii.gz is missing" in problem


def test_sheared_cases_are_straightened_with_their_labels(
    tmp_path: Path, make_dataset: MakeDataset, ct_case: CtCase
) -> None:
    images, labels = ct_case()
    affine = np.array(images[0].geometry.affine)
    affine[:3, 0] += [0.0, 0.9, 0.0]  # a gantry tilted by 17 degrees
    tilted = Geometry.from_affine(affine, images[0].geometry.shape)
    folder = make_dataset({"a": (images, labels)})
    write_image(Image(images[0].array, tilted), folder / "imagesTr" / "a_0000.nii.gz")
    write_labels(Image(labels.array, tilted), folder / "labelsTr" / "a.nii.gz")
    dataset = RawDataset.open(folder)
    heard: list[Event] = []
    case = preprocess_dataset(dataset, make_plan(dataset), tmp_path / "cache", heard.append).cases[0]
    assert any(isinstance(event, Message) and "sheared" in event.text for event in heard)
    liver = np.asarray(case.data)[0][np.asarray(case.seg) > 0]
    assert abs(float(np.median(liver))) < 0.5
    assert case.counts[1] + case.counts[2] == pytest.approx(600, rel=0.15)


def test_case_seeds_depend_on_name_and_seed_alone() -> None:
    assert case_seed("liver_001") == case_seed("liver_001") == 270660095267139809
    assert len({case_seed(f"case_{i}", seed) for i in range(100) for seed in range(3)}) == 300


def test_what_was_changed_lies_where_the_labels_say_so_on_the_networks_grid(
    tmp_path: Path, make_dataset: MakeDataset, make_volume: Callable[..., Image]
) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((16, 24, 20), dtype=np.uint8)
    truth[4:12, 6:18, 5:15] = 1
    image = make_volume((rng.normal(size=truth.shape) + 5 * truth).astype(np.float32))
    predicted = truth.copy()
    predicted[4:8, 6:18, 5:15] = 0  # four slices were missed
    predicted[14, 0:6, 0:6] = 2  # and something found that is not there
    folder = make_dataset({"a": ([image], make_volume(truth)), "b": ([image], make_volume(truth))}, modality="mri")
    dataset = RawDataset.open(folder)
    plan = make_plan(dataset, spacing=(3.0, 1.5, 1.5)).model_copy(update={"crop_to_body": False})
    prediction = tmp_path / f"a.1{dataset.description.file_ending}"
    write_labels(make_volume(predicted), prediction, like=image)
    first, second = preprocess_dataset(dataset, plan, tmp_path / "cache", predictions={"a": prediction})
    difference = make_volume((truth != predicted).astype(np.uint8))
    only = make_dataset({"a": ([image], difference)}, name="Dataset901_Difference", modality="mri")
    expected = preprocess_dataset(RawDataset.open(only), plan, tmp_path / "other").cases[0].seg
    assert first.changed is not None and first.changed.any()
    np.testing.assert_array_equal(first.changed, expected)
    assert {tuple(voxel) for voxel in first.changed_voxels} == set(zip(*np.nonzero(first.changed), strict=True))
    assert second.changed is None and second.changed_voxels.shape == (0, 3)


def test_another_prediction_rebuilds_its_case_alone_and_one_on_another_grid_is_refused(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan
) -> None:
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    before = _times(cached.folder)
    prediction = dataset.cases("Tr")[0].label
    assert prediction is not None
    corrected = preprocess_dataset(dataset, plan, tmp_path / "cache", predictions={"a": prediction})
    assert corrected.cases[0].changed is not None and not corrected.cases[0].changed.any()
    after = _times(cached.folder)
    assert {name for name in before if before[name] != after[name]} == {"a.json", "a.npy", "a_seg.npy"}
    small = tmp_path / f"small{dataset.description.file_ending}"
    write_labels(Image(np.zeros((1, 2, 3, 4), np.uint8), Geometry((2, 3, 4), (1.0, 1.0, 1.0))), small)
    with pytest.raises(BadInputError, match="grid"):
        preprocess_dataset(dataset, plan, tmp_path / "cache", predictions={"a": small})


def test_what_a_killed_preprocessing_left_goes_and_what_another_one_is_writing_stays(
    tmp_path: Path, dataset: RawDataset, plan: TaskPlan
) -> None:
    folder = preprocess_dataset(dataset, plan, tmp_path / "cache").folder
    (folder / ".tmp-killed.npy").write_bytes(b"half")
    with atomic_path(folder / "other.npy") as writing:  # locked, as by another process
        writing.write_bytes(b"half")
        preprocess_dataset(dataset, plan, tmp_path / "cache")
        assert [path.name for path in folder.glob(".tmp-*")] == [writing.name]
    assert not list(folder.glob(".tmp-*")) and (folder / "other.npy").exists()
