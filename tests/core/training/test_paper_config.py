"""The configuration of the paper's training is the paper's (docs/spec.md section 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.conversion import CONVERSIONS
from meduniseg_core.training import NetworkSettings, TrainingConfig

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
