"""Batches are a function of seed and number; every task gets its share; foreground is oversampled."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.batches import BatchSource, TaskData
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
