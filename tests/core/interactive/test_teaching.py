"""Teaching by strokes on made images: what is learned, what stays, undo, blocks, cancel, quick tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.events import CancelToken, Progress
from meduniseg_core.images import Geometry, Image
from meduniseg_core.interactive import FeatureCache, ImageFeatures, QuickTask, Stroke, Teacher, strokes_in
from meduniseg_core.interactive.features import FeaturePart


def bright_ball(shape: tuple[int, int, int], centre: tuple[int, int, int], seed: int = 0) -> tuple[Image, np.ndarray]:
    spacing = (3.0, 1.0, 1.0)
    grids = np.ogrid[tuple(slice(0, size) for size in shape)]
    steps = spacing if shape[0] > 1 else (0.0, 1.0, 1.0)
    mask = sum(((g - c) * s) ** 2 for g, c, s in zip(grids, centre, steps, strict=True)) <= 9**2
    array = np.random.default_rng(seed).normal(0, 0.3, shape) + 2 * mask
    geometry = Geometry(shape=shape, spacing=spacing, origin=(0, 0, 0), direction=((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    return Image(array.astype(np.float32)[None], geometry), mask


def row(label: int, depth: int, height: int, first: int, last: int) -> Stroke:
    along = np.arange(first, last)
    return Stroke((np.full_like(along, depth), np.full_like(along, height), along), label)


def features_of(image: Image) -> ImageFeatures:
    return FeatureCache().get(image, None)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


EVERYTHING = slice(0, 1), slice(0, 48), slice(0, 48)


def test_two_strokes_on_one_slice_label_the_volume_and_its_slice_alike() -> None:
    image, mask = bright_ball((9, 48, 48), (4, 24, 24))
    teacher = Teacher(features_of(image))
    teacher.add(row(1, 4, 24, 20, 28))
    assert not teacher.ready
    teacher.add(row(0, 4, 4, 4, 40))
    assert teacher.ready
    seen: list[Progress] = []
    whole = teacher.whole(events=lambda event: seen.append(event) if isinstance(event, Progress) else None)
    assert dice(whole == 1, mask) > 0.9
    assert seen[-1].done == seen[-1].total
    one = teacher.labels((slice(4, 5), slice(0, 48), slice(0, 48)))[0]
    assert dice(one == 1, mask[4]) > 0.9


def test_strokes_of_several_classes_refine_and_undo_restores_bit_for_bit() -> None:
    image, mask = bright_ball((1, 48, 48), (0, 24, 24))
    array = np.array(image.array)
    array[0, 0, :, :10] -= 3  # a third kind
    teacher = Teacher(features_of(image.with_array(array)))
    teacher.add(row(1, 0, 24, 20, 28))
    teacher.add(row(0, 0, 40, 15, 45))
    before = teacher.labels(EVERYTHING)
    teacher.add(row(7, 0, 10, 2, 8))
    after = teacher.labels(EVERYTHING)
    assert (after[0, :, :10] == 7).mean() > 0.9
    assert dice(after == 1, mask) > 0.9
    taken = teacher.undo()
    assert taken is not None and taken.label == 7
    assert np.array_equal(teacher.labels(EVERYTHING), before)


def test_blocks_of_a_volume_make_the_same_labels_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = bright_ball((9, 48, 48), (4, 24, 24))
    teacher = Teacher(features_of(image))
    teacher.add(row(1, 4, 24, 20, 28))
    teacher.add(row(0, 4, 4, 4, 40))
    at_once = teacher.whole()
    monkeypatch.setattr("meduniseg_core.interactive.teacher._BLOCK", 48 * 48 * 2)
    assert np.array_equal(teacher.whole(), at_once)
    token = CancelToken()
    with pytest.raises(CancelledError):
        teacher.whole(events=lambda _event: token.cancel(), cancel=token)


def test_a_correction_changes_only_what_is_near_and_connected_with_its_stroke() -> None:
    image, mask = bright_ball((1, 96, 96), (0, 24, 24))
    second = np.roll(mask, (50, 50), axis=(1, 2))
    image = image.with_array(image.array + 2 * second[None].astype(np.float32))
    base = np.zeros(mask.shape, np.uint8)
    base[mask] = 1
    base[0, :, :20] = 0  # a part of the first ball is missed, and the whole of the second
    teacher = Teacher(features_of(image), base, reach_mm=20.0)
    teacher.add(row(1, 0, 24, 16, 19))
    box = slice(0, 1), slice(0, 96), slice(0, 96)
    labels = teacher.labels(box)
    assert dice(labels == 1, mask) > 0.9 > dice(base == 1, mask)
    assert not labels[second].any(), "a likely spot beyond the stroke's reach stays as it was"
    assert np.array_equal(teacher.whole(), labels)


def test_a_stroke_outside_and_labels_of_another_grid_are_refused() -> None:
    image, _ = bright_ball((1, 48, 48), (0, 24, 24))
    features = features_of(image)
    teacher = Teacher(features)
    with pytest.raises(UsageError, match="reaches beyond the image"):
        teacher.add(row(1, 0, 24, 40, 60))
    with pytest.raises(UsageError, match="empty"):
        teacher.add(row(1, 0, 24, 5, 5))
    with pytest.raises(UsageError, match="at least one stroke"):
        teacher.labels(EVERYTHING)
    with pytest.raises(UsageError, match="grid"):
        Teacher(features, np.zeros((1, 4, 4), np.uint8))


def test_what_touches_and_has_one_value_is_one_stroke() -> None:
    painted = np.zeros((3, 20, 20), np.uint8)
    painted[0, 5, 2:9] = painted[1, 6, 9:12] = 2  # touch at a corner, across slices
    painted[0, 5, 9:14] = 3
    painted[2, 15, 2:6] = 2
    painted[0, :, 19] = painted[1, :, 0] = 1  # neighbours in memory only
    found = strokes_in(painted)
    assert [(stroke.label, stroke.where[0].size) for stroke in found] == [(0, 20), (0, 20), (1, 10), (1, 4), (2, 5)]
    again = np.zeros_like(painted)
    for stroke in found:
        again[stroke.where] = stroke.label + 1
    np.testing.assert_array_equal(again, painted)
    assert strokes_in(np.zeros_like(painted)) == []


def test_a_stroke_counts_the_same_however_long_it_is() -> None:
    image, _ = bright_ball((1, 48, 48), (0, 24, 24))
    short, long = Teacher(features_of(image)), Teacher(features_of(image))
    for teacher, end in ((short, 10), (long, 44)):
        teacher.add(row(1, 0, 24, 20, 28))
        teacher.add(row(0, 0, 4, 4, end))
    sizes = [np.abs(teacher.classifier.parts[0].weights).sum() for teacher in (short, long)]
    assert 0.7 < sizes[0] / sizes[1] < 1.4
    for height in (6, 8, 40, 42, 44):
        long.add(row(0, 0, height, 4, 44))
    long.add(row(1, 0, 22, 20, 28))
    assert np.abs(long.classifier.parts[0].weights).sum() > 1.1 * sizes[1], "more strokes, more certain"


def test_a_quick_task_labels_the_next_image(tmp_path: Path) -> None:
    image, _ = bright_ball((1, 48, 48), (0, 24, 24))
    teacher = Teacher(features_of(image))
    teacher.add(row(3, 0, 24, 20, 28))
    teacher.add(row(0, 0, 4, 4, 40))
    path = tmp_path / "balls.json"
    QuickTask.taught("balls", teacher, {3: "ball"}).save(path)
    loaded = QuickTask.load(path)
    assert loaded.classes == {3: "ball"}
    following, mask = bright_ball((1, 48, 48), (0, 20, 28), seed=1)
    brighter = following.with_array(following.array * 7 + 100)  # another device
    labels = loaded.teacher(features_of(brighter)).whole()
    assert dice(labels == 3, mask) > 0.85


@pytest.mark.parametrize("change", ["bias", "name", "weights", "number", "text"])
def test_a_damaged_quick_task_is_refused_in_one_sentence(tmp_path: Path, change: str) -> None:
    image, _ = bright_ball((1, 48, 48), (0, 24, 24))
    teacher = Teacher(features_of(image))
    teacher.add(row(1, 0, 24, 20, 28))
    teacher.add(row(0, 0, 4, 4, 40))
    path = tmp_path / "task.json"
    QuickTask.taught("t", teacher, {}).save(path)
    content = json.loads(path.read_text("utf-8"))
    if change == "bias":
        content["classifier"]["bias"] = [0.0]
    elif change == "name":
        content["classifier"]["parts"][0]["name"] = "other"
    elif change == "weights":
        content["classifier"]["parts"][0]["weights"][0].append(1.0)
    elif change == "number":
        content["classifier"]["bias"][0] = float("nan")
    path.write_text("not JSON" if change == "text" else json.dumps(content), "utf-8")
    with pytest.raises(BadInputError, match=r"task.json is not a quick task"):
        QuickTask.load(path)


def test_the_cache_gives_the_same_object_for_the_same_voxels_only() -> None:
    cache = FeatureCache()
    image, _ = bright_ball((1, 48, 48), (0, 24, 24))
    other, _ = bright_ball((1, 48, 48), (0, 24, 24), seed=5)
    assert cache.get(image, None) is cache.get(image.with_array(np.array(image.array)), None)
    assert cache.get(other, None) is not cache.get(image, None)


def test_features_on_a_coarse_grid_are_interpolated_alike_at_voxels_and_in_boxes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 5, 6)).astype(np.float16)
    from meduniseg_core.preprocessing.resample import axis_matrix

    sizes = (4, 11, 9)
    axes = [axis_matrix(n, size, "linear").numpy() for n, size in zip(values.shape[1:], sizes, strict=True)]
    part = FeaturePart("p", values, (axes[0], axes[1], axes[2]))
    box = slice(1, 3), slice(2, 9), slice(0, 9)
    inside = part.scores(np.eye(3, dtype=np.float32), box)
    where = np.nonzero(np.ones((2, 7, 9), bool))
    at = part.at((where[0] + 1, where[1] + 2, where[2]))
    np.testing.assert_allclose(at.T.reshape(inside.shape), inside, atol=2e-3)


def test_a_large_image_is_described_on_a_coarser_grid_and_labelled_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = bright_ball((9, 48, 48), (4, 24, 24))
    monkeypatch.setattr("meduniseg_core.interactive.image_features._MOST", 9 * 24 * 24)
    features = features_of(image)
    values = features.parts[0].values
    assert values.shape[1] == 9 and values[0].size <= 9 * 24 * 24 and features.shape == (9, 48, 48)
    teacher = Teacher(features)
    teacher.add(row(1, 4, 24, 20, 28))
    teacher.add(row(0, 4, 4, 4, 40))
    assert dice(teacher.whole() == 1, mask) > 0.85


def test_strokes_in_an_image_without_any_contrast_reach_by_distance_alone() -> None:
    geometry = Geometry((1, 48, 48), (1.0, 1.0, 1.0))
    teacher = Teacher(features_of(Image(np.full((1, 1, 48, 48), 7.0, np.float32), geometry)))
    teacher.add(row(3, 0, 10, 10, 30))
    teacher.add(row(0, 0, 40, 10, 30))
    labels = teacher.labels(EVERYTHING)[0]
    assert (labels[:20] == 3).all() and not labels[30:].any()


def test_a_stroke_of_the_only_class_of_the_labels_asks_for_another_stroke() -> None:
    image, mask = bright_ball((1, 48, 48), (0, 24, 24))
    teacher = Teacher(features_of(image), np.ones(mask.shape, np.uint8))
    teacher.add(row(1, 0, 24, 20, 28))
    with pytest.raises(UsageError, match="one beside it"):
        teacher.labels(EVERYTHING)
