"""The configuration of the paper's training is the paper's (docs/spec.md section 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.conversion import CONVERSIONS
from meduniseg_core.preprocessing.planners import PAPER_BATCH, PAPER_LONGEST_SIDE, PAPER_PATCH, PAPER_SPACING
from meduniseg_core.training import NetworkSettings, TrainingConfig
from meduniseg_core.training.augmentation import AugmentationConfig

CONFIG = Path(__file__).parents[3] / "experiments" / "paper" / "paper.toml"


def test_the_papers_configuration_names_its_data_sets_plan_and_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDUNISEG_PAPER", "/data")
    config = TrainingConfig.from_toml(CONFIG)
    assert len(config.datasets) == 17
    assert {folder.name for folder in config.datasets} <= set(CONVERSIONS)
    assert config.total_iterations == 850_000
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.01, 0.99, 3e-5)
    assert config.longest_gradient == 12 and config.task_sampling_power == 0
    assert (config.plan_3d.spacing, config.plan_3d.patch, config.plan_3d.batch) == ((3, 1.5, 1.5), (64, 192, 192), 2)
    assert (config.plan_2d.longest_side, config.plan_2d.patch, config.plan_2d.batch) == (512, (1, 512, 512), 12)
    assert config.network == NetworkSettings()
    assert config.augmentation == AugmentationConfig(presets="none")


def test_the_planner_called_paper_is_the_configurations_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDUNISEG_PAPER", "/data")
    config = TrainingConfig.from_toml(CONFIG)
    assert (config.plan_3d.spacing, config.plan_2d.longest_side) == (PAPER_SPACING, PAPER_LONGEST_SIDE)
    for dimension, plan in ((2, config.plan_2d), (3, config.plan_3d)):
        assert (plan.patch, plan.batch) == (PAPER_PATCH[dimension], PAPER_BATCH[dimension])
