"""What a run's images and classes are like stands in its model, and changes no run's fingerprint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meduniseg_core.training import TrainingConfig
from meduniseg_core.training import prepare as module
from meduniseg_core.training.prepare import prepare


def test_every_plan_of_a_new_model_has_statistics(config: TrainingConfig, tmp_path: Path) -> None:
    found = prepare(config)
    for plan in found.info.tasks:
        assert plan.statistics is not None and plan.statistics.cases >= 4
        (blob,) = plan.statistics.classes
        assert blob is not None and blob.cases == plan.statistics.cases and blob.size[0] > 0
    again = prepare(config)  # from the facts that are kept beside the cases
    assert again == found
    assert json.loads((config.output / "plans.json").read_text())["plans"][0]["statistics"]["cases"] >= 4


def test_the_fingerprint_is_that_of_a_run_without_them(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepare(config)
    monkeypatch.setattr(module, "task_statistics", lambda *_, **__: None)
    without = prepare(config)
    assert all(plan.statistics is None for plan in without.info.tasks)
    assert without.config_hash == found.config_hash
