"""Plans and settings written before a field was renamed: they are read, and what is hashed of them stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.cache import _preprocessing_part
from meduniseg_core.training import PlanSettings
from meduniseg_core.training.checkpoint import RunState


def test_a_plan_under_the_former_name_is_the_same_plan(make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of(task="polyp", dimension=2, longest_side=512, patch=(1, 512, 512))
    former = json.loads(plan.model_dump_json())
    former["long_side"] = former.pop("longest_side")
    assert TaskPlan.model_validate(former) == plan
    assert json.loads(plan.model_dump_json())["longest_side"] == 512


def test_settings_under_the_former_name_are_the_same() -> None:
    assert PlanSettings.model_validate({"long_side": 256}) == PlanSettings(longest_side=256)


def test_a_misspelt_name_is_refused() -> None:
    with pytest.raises(ValueError, match="longer_side"):
        PlanSettings.model_validate({"longer_side": 256})


def test_the_cache_key_is_the_one_of_the_version_before(make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of(
        task="polyp", dimension=2, longest_side=512, spacing=None, patch=(1, 512, 512), classes=("polyp",)
    )
    part = _preprocessing_part(plan)
    assert "long_side" in part
    assert hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] == "5086f2bac1fcb4cd"


def test_a_checkpoint_s_state_under_the_former_name_is_read() -> None:
    assert RunState.model_validate_json('{"fingerprint": "abc"}').config_hash == "abc"
    assert json.loads(RunState(config_hash="abc").model_dump_json())["config_hash"] == "abc"
