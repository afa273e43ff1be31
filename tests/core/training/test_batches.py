"""Batches are a function of seed and number; every task gets its share; foreground is oversampled."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydantic import ValidationError

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import IGNORED, CachedCase
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.batches import Batch, BatchSource, DrawnBatch, TaskData, batches_by_task, batches_from
from meduniseg_core.training.prepare import prepare


@pytest.fixture
def tasks(config: TrainingConfig) -> list[TaskData]:
    return [TaskData(task.plan, task.train) for task in prepare(config).tasks]


def make(tasks: list[TaskData], seed: int = 0, augmentation: AugmentationConfig | None = None) -> BatchSource:
    return BatchSource(tasks, 7, 42, seed, 1 / 3, augmentation or AugmentationConfig())


def test_every_epoch_gives_each_task_its_iterations_in_changing_order(tasks: list[TaskData]) -> None:
    source = make(tasks)
    epochs = [[source.task_of(i) for i in range(start, start + 14)] for start in (0, 14, 28)]
    assert all(Counter(epoch) == {0: 7, 1: 7} for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_tasks_that_lag_get_more_batches_of_an_epoch(tasks: list[TaskData]) -> None:
    shares = {tasks[1].plan.task: 2.5}
    source = BatchSource(tasks, 7, 42, 0, 1 / 3, AugmentationConfig(), task_shares=shares)
    for start in (0, 14, 28):
        assert Counter(source.task_of(i) for i in range(start, start + 14)) == {0: 4, 1: 10}


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.integers(1, 60))
def test_the_batches_of_an_epoch_are_shared_out_to_the_last(shares: list[float], each: int) -> None:
    counts = batches_by_task(shares, each)
    assert sum(counts) == each * len(shares) and min(counts) >= 1
    assert all(a >= b for (x, a), (y, b) in product(zip(shares, counts, strict=True), repeat=2) if x > y * (1 + 1e-6))
    assert batches_by_task([3.7] * len(shares), each) == [each] * len(shares)


@pytest.mark.parametrize("setting", ["plan", "absence", "task_shares"])
def test_a_setting_for_a_task_that_no_data_set_holds_is_refused(config: TrainingConfig, setting: str) -> None:
    own = {"plan": {"knee": {}}, "absence": {"knee": {"share": 0.1}}, "task_shares": {"knee": 2.0}}[setting]
    wrong = TrainingConfig.model_validate({**config.model_dump(), setting: own})
    with pytest.raises(UsageError, match="'knee', which no data set holds"):
        prepare(wrong)


def test_runs_without_task_shares_keep_their_hash(config: TrainingConfig) -> None:
    task = prepare(config).tasks[0].plan.task
    shared = config.model_copy(update={"task_shares": {task: 2.0}})
    assert prepare(shared).config_hash != prepare(config).config_hash
    assert prepare(config.model_copy(update={"task_shares": {}})).config_hash == prepare(config).config_hash
    with pytest.raises(ValidationError, match="above 0"):
        TrainingConfig.model_validate({**config.model_dump(), "task_shares": {task: 0}})


def test_a_batch_depends_on_its_number_and_the_seed_alone(tasks: list[TaskData]) -> None:
    first, second, other = make(tasks), make(tasks), make(tasks, seed=1)
    for index in (0, 13, 41, 5):
        a, b = first[index], second[index]
        assert a.cases == b.cases
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    assert any(not torch.equal(first[i].images, other[i].images) for i in range(3) if first[i].task == other[i].task)


def test_a_batch_holds_one_task_in_its_plans_shape(tasks: list[TaskData]) -> None:
    source = make(tasks)
    for index in range(6):
        batch = source[index]
        plan = tasks[batch.task].plan
        assert batch.images.shape == (plan.batch, len(plan.channels), *plan.patch)
        assert batch.labels.shape == (plan.batch, *plan.patch)
        assert batch.labels.dtype == torch.int64
        assert set(batch.cases) <= {case.case for case in tasks[batch.task].cases}


def test_the_last_third_of_a_batch_is_centred_on_foreground(tasks: list[TaskData]) -> None:
    source = make(tasks, augmentation=AugmentationConfig.none())
    centres = []
    for index in range(42):
        batch = source[index]
        d, h, w = (size // 2 for size in batch.labels.shape[1:])
        near = batch.labels[-1, max(0, d - 1) : d + 2, h - 1 : h + 2, w - 1 : w + 2]
        centres.append(bool((near > 0).any()))
    assert np.mean(centres) == 1.0


def corrected(config: TrainingConfig, discs: Path, case: str) -> tuple[TaskData, np.ndarray]:
    """The discs, where ``case`` corrects a prediction that had found more: a corner of 8x8 pixels; and that corner."""
    predicted = np.array(PillowImage.open(discs / "labelsTr" / f"{case}.png"))
    predicted[:8, :8] = 1
    path = config.output.parent / f"{case}.1.png"
    PillowImage.fromarray(predicted).save(path)
    alone = config.model_copy(update={"datasets": (discs,), "predictions": {case: path}, "validation_fraction": 0.0})
    task = prepare(alone).tasks[0]
    found = next(own for own in task.train if own.case == case).changed
    assert found is not None
    return TaskData(task.plan, task.train), np.asarray(found)


def made(data: TaskData, share: float, augmentation: AugmentationConfig | None = None) -> BatchSource:
    return BatchSource([data], 40, 40, 0, 0.0, augmentation or AugmentationConfig.none(), share)


def test_corrected_voxels_are_sampled_as_often_as_asked(config: TrainingConfig, discs: Path) -> None:
    data, changed = corrected(config, discs, "disc_2")
    assert 40 < changed.sum() < 120  # the corner, on the network's grid

    def seen(share: float) -> float:
        batches = [made(data, share)[index] for index in range(40)]
        samples = [sample for batch in batches if batch.changed is not None for sample in batch.changed]
        return sum(bool(sample.any()) for sample in samples) / (40 * data.plan.batch)

    often, always = seen(0.5), seen(1.0)
    assert seen(0.0) < 0.15 < 0.4 < often < 0.7
    assert always == 1.0


def test_the_map_of_changes_moves_with_the_labels(config: TrainingConfig, discs: Path) -> None:
    data, _ = corrected(config, discs, "disc_2")
    probabilities = [name for name in AugmentationConfig.model_fields if name.startswith("p_")]
    source = made(data, 1.0, AugmentationConfig.model_validate(dict.fromkeys(probabilities, 1.0)))
    for index in range(5):
        batch = source[index]
        assert batch.changed is not None and batch.changed.shape == batch.labels.shape
        assert set(batch.changed.unique().tolist()) <= {0.0, 1.0}
        # what was removed by hand is background now, wherever the patch was turned to
        assert not (batch.changed.bool() & (batch.labels > 0)).any()


def test_without_a_prediction_corrections_change_nothing(tasks: list[TaskData]) -> None:
    plain, asked = make(tasks), BatchSource(tasks, 7, 42, 0, 1 / 3, AugmentationConfig(), 0.9)
    for index in (0, 13, 41):
        assert asked[index].changed is None
        assert torch.equal(plain[index].images, asked[index].images)
        assert torch.equal(plain[index].labels, asked[index].labels)


def ignoring(discs: Path) -> None:
    """Nobody looked at the right half, nor at anything in the last case but a corner."""
    path = discs / "dataset.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "labels": {"background": 0, "blob": 1, "ignore": 2}}), "utf-8")
    for index in range(6):
        file = discs / "labelsTr" / f"disc_{index}.png"
        seg = np.array(PillowImage.open(file))
        seg[:, 28:] = 2
        if index == 5:
            seg[:, 6:] = 2
        PillowImage.fromarray(seg).save(file)


def test_voxels_that_nobody_looked_at_have_no_label_and_no_weight(config: TrainingConfig, discs: Path) -> None:
    ignoring(discs)
    tasks = [TaskData(task.plan, task.train + task.validation) for task in prepare(config).tasks]
    source = make(tasks, augmentation=AugmentationConfig.none())
    seen = 0
    for index in range(42):
        batch = source[index]
        assert int(batch.labels.max()) <= 1
        if batch.task == 1:
            assert batch.looked_at is None
            continue
        seen += 1
        assert batch.looked_at is not None and set(batch.looked_at.unique().tolist()) <= {0.0, 1.0}
        assert not batch.labels[batch.looked_at == 0].any()
        assert batch.looked_at.flatten(1).any(1).all()  # no patch without anything to learn from
    assert seen > 10
    augmented = make(tasks)[next(i for i in range(42) if source.task_of(i) == 0)]
    assert augmented.looked_at is not None and int(augmented.labels.max()) <= 1


def test_a_run_on_sparse_labels_trains_and_is_judged_by_what_was_looked_at(config: TrainingConfig, discs: Path) -> None:
    ignoring(discs)
    result = train(config.model_copy(update={"datasets": (discs,), "epochs": 1}))
    assert result.best_dice is not None and np.isfinite(result.best_dice)


def test_batches_that_the_device_augments_are_those_of_the_workers(tasks: list[TaskData]) -> None:
    quiet = AugmentationConfig(p_noise=0.0, presets="none")  # the noise alone is drawn by the device
    workers, device = (BatchSource(tasks, 7, 42, 0, 1 / 3, quiet, on_device=where) for where in (False, True))
    for wanted, found in islice(
        zip(batches_from(workers, 3, 0, pin=False), batches_from(device, 3, 0, pin=False), strict=True), 8
    ):
        assert (found.task, found.cases, found.looked_at) == (wanted.task, wanted.cases, None)
        torch.testing.assert_close(found.images, wanted.images, atol=1e-3, rtol=0)
        assert (found.labels != wanted.labels).float().mean() < 1e-3
    assert all(isinstance(device[index], DrawnBatch) for index in range(4))
    # presets of appearance stay with the workers
    presets = BatchSource(tasks, 7, 42, 0, 1 / 3, AugmentationConfig(), on_device=True)
    assert all(isinstance(presets[index], Batch) for index in range(4))


def test_parts_without_labels_are_known_to_the_device_too(tasks: list[TaskData], tmp_path: Path) -> None:
    case = tasks[1].cases[0]
    seg = np.array(case.seg)
    seg[:, ::2] = IGNORED
    for name in (f"{case.case}.npy", f"{case.case}.json"):
        (tmp_path / name).write_bytes((case.folder / name).read_bytes())
    np.save(tmp_path / f"{case.case}_seg.npy", seg)
    sparse = [TaskData(tasks[1].plan, (CachedCase(tmp_path, case.record),))]
    quiet = AugmentationConfig(p_noise=0.0, presets="none")
    wanted, found = (
        next(batches_from(BatchSource(sparse, 7, 42, 0, 1 / 3, quiet, on_device=where), 0, 0, pin=False))
        for where in (False, True)
    )
    assert wanted.looked_at is not None and found.looked_at is not None
    assert 0.2 < wanted.looked_at.mean() < 0.8
    assert (found.looked_at != wanted.looked_at).float().mean() < 1e-3 and int(found.labels.max()) < IGNORED


def test_a_run_whose_device_augments_ends_like_one_whose_workers_do(config: TrainingConfig, tmp_path: Path) -> None:
    quiet = {"p_noise": 0.0, "presets": "none"}
    losses = []
    for where in ("cpu", "device"):
        settings = {**config.model_dump(), "augmentation": quiet, "augment_on": where, "output": tmp_path / where}
        run = TrainingConfig.model_validate({**settings, "epochs": 1})
        train(run)
        losses.append(json.loads((run.output / "log.jsonl").read_text().splitlines()[0])["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
