"""Samples without the target: the patch holds none of it, and the image is the case's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import CachedCase, TaskPlan
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.absence import AbsenceSettings, AbsenceSource
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.batches import BatchSource, TaskData
from meduniseg_core.training.prepare import prepare


@pytest.fixture
def tasks(config: TrainingConfig) -> list[TaskData]:
    return [TaskData(task.plan, task.train) for task in prepare(config).tasks]


def two_lungs(folder: Path, sick: str) -> tuple[TaskPlan, CachedCase]:
    """Two bright lungs (1); the one on the ``sick`` side ("left", "right", "both") has a spot (2)."""
    from meduniseg_core.preprocessing.cached_cases import CaseRecord

    seg = np.zeros((1, 40, 60), dtype=np.uint8)
    seg[0, 8:32, 6:24] = seg[0, 8:32, 36:54] = 1
    if sick in ("left", "both"):
        seg[0, 15:20, 10:15] = 2
    if sick in ("right", "both"):
        seg[0, 15:20, 40:45] = 2
    data = seg[None].astype(np.float16)
    np.save(folder / "chest.npy", data)
    np.save(folder / "chest_seg.npy", seg)
    record = CaseRecord(key="k", case="chest", patient="p", shape=(1, 40, 60), counts={}, foreground={})
    plan = TaskPlan(
        task="chest", modality="xray", dimension=2, channels=("xray",), classes=("lung", "infection"), longest_side=60,
        patch=(1, 64, 64), batch=2, normalisation=("zscore",), figures=(None,),
    )  # fmt: skip
    return plan, CachedCase(folder, record)


@pytest.mark.parametrize("sick", ["left", "right"])
def test_the_free_half_is_shown_twice_and_nothing_sick_is_left(tmp_path: Path, sick: str) -> None:
    plan, case = two_lungs(tmp_path, sick)
    source = AbsenceSource(plan, [case], AbsenceSettings(share=1, classes=("infection",), methods=("half",)), {})
    sample = source.draw(np.random.default_rng(0))
    assert sample is not None and sample.zoom is None
    assert not (sample.seg == 2).any()
    assert np.array_equal(sample.seg, sample.seg[..., ::-1]) and np.array_equal(sample.data[0], sample.seg)
    assert (sample.seg == 1).sum() == 2 * 24 * 18  # both lungs, whole


def test_an_image_without_a_free_half_gives_a_crop_that_avoids_the_target(tmp_path: Path) -> None:
    plan, case = two_lungs(tmp_path, "both")
    settings = AbsenceSettings(share=1, classes=("infection",), methods=("half", "crop"))
    source = AbsenceSource(plan, [case], settings, {})
    for seed in range(20):
        sample = source.draw(np.random.default_rng(seed))
        if sample is None:
            continue
        assert sample.zoom is not None
        size = [min(n, round(64 * sample.zoom)) for n in (40, 60)]
        y, x = sample.centre[1] - size[0] // 2, sample.centre[2] - size[1] // 2
        assert not (case.seg[0, y : y + size[0], x : x + size[1]] == 2).any()


def test_the_share_of_a_tasks_samples_without_target_is_the_one_asked_for(tasks: list[TaskData]) -> None:
    settings = {"disc": AbsenceSettings(share=0.5)}
    plain = AugmentationConfig.none()
    source = BatchSource(tasks, 7, 210, 0, 0.0, plain, absence=settings)
    discs = [source[index].labels for index in range(210) if source.task_of(index) == 0]
    empty = [bool((labels == 0).all()) for batch in discs for labels in batch]
    assert 0.3 < np.mean(empty) < 0.65
    without = BatchSource(tasks, 7, 210, 0, 0.0, plain)
    assert all((without[i].labels > 0).any() for i in range(30) if without.task_of(i) == 0)


def test_other_tasks_batches_are_the_same_with_and_without(tasks: list[TaskData]) -> None:
    plain = AugmentationConfig.none()
    with_it = BatchSource(tasks, 7, 42, 0, 0.3, plain, absence={"disc": AbsenceSettings(share=0.5)})
    without = BatchSource(tasks, 7, 42, 0, 0.3, plain)
    balls = [i for i in range(42) if without.task_of(i) == 1][:4]
    assert all(bool((with_it[i].images == without[i].images).all()) for i in balls)


def test_images_of_another_task_show_nothing_of_the_target(tasks: list[TaskData], tmp_path: Path) -> None:
    plan, case = two_lungs(tmp_path, "left")
    settings = AbsenceSettings(share=1, methods=("other",), others=("disc",))
    source = AbsenceSource(plan, [case], settings, {"disc": tasks[0].cases})
    sample = source.draw(np.random.default_rng(0))
    assert sample is not None and sample.case.startswith("disc_")
    assert not sample.seg.any() and sample.seg.shape == sample.data.shape[1:]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (AbsenceSettings(share=0.1, classes=("tumour",)), "tumour"),
        (AbsenceSettings(share=0.1, methods=("other",), others=("nothing",)), "nothing"),
    ],
)
def test_settings_that_fit_no_data_are_refused_by_name(tmp_path: Path, settings: AbsenceSettings, words: str) -> None:
    plan, case = two_lungs(tmp_path, "left")
    with pytest.raises(UsageError, match=words):
        AbsenceSource(plan, [case], settings, {})


def test_volumes_are_refused(tasks: list[TaskData]) -> None:
    with pytest.raises(UsageError, match="volumes"):
        AbsenceSource(tasks[1].plan, tasks[1].cases, AbsenceSettings(share=0.1), {})
