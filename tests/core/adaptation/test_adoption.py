"""The models in use: adopting, rolling back, models that go away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from meduniseg_core.adaptation.adoption import Adoptions
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ModelInfo, Registry


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models one, two and three, all of the task blob."""
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    torch.manual_seed(0)
    config = ModelConfig(features=(4, 4), strides=((1, 2, 2),), stems=(1,), classes=2, modalities=0, tasks=0)
    plan = TaskPlan(
        task="blob", modality="xray", dimension=2, channels=("grey",), classes=("blob",), long_side=32,
        patch=(1, 32, 32), normalisation=("zscore",), figures=(None,),
    )  # fmt: skip
    for name in ("one", "two", "three"):
        Registry().save(ModelInfo(name=name, config=config, tasks=(plan,)), build_model(config).state_dict())
    return tmp_path


def test_the_newest_is_in_use_and_rolling_back_goes_through_all_of_them() -> None:
    used = Adoptions()
    assert used.current("blob") is None and used.all() == {}
    for name in ("one", "two", "three", "two"):
        used.adopt("blob", name, "starter")
    assert [entry.model for entry in used.of("blob")] == ["one", "three", "two"]
    assert used.roll_back("blob") == ("two", "three")
    assert used.roll_back("blob") == ("three", "one")
    assert used.roll_back("blob") == ("one", None)
    with pytest.raises(UsageError, match="nothing to roll back"):
        used.roll_back("blob")


def test_a_model_that_was_removed_is_in_use_no_more() -> None:
    used = Adoptions()
    used.adopt("blob", "one", "starter")
    used.adopt("blob", "two", "starter")
    Registry().remove("two")
    assert used.all() == {"blob": "one"}
    Registry().remove("one")
    assert used.current("blob") is None


def test_a_model_without_the_task_and_a_broken_file_are_refused(models: Path) -> None:
    with pytest.raises(UsageError, match="has no task 'liver'"):
        Adoptions().adopt("liver", "one", "starter")
    (models / "adopted.json").write_text("{")
    with pytest.raises(BadInputError, match="delete it"):
        Adoptions().all()


def test_what_was_adopted_is_on_the_disk(models: Path) -> None:
    Adoptions().adopt("blob", "one", "starter")
    assert json.loads((models / "adopted.json").read_text())["tasks"]["blob"][0]["model"] == "one"
