"""Plans in a JSON that a person edits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.preprocessing import TaskPlan, load_plans, save_plans


def test_plans_come_back_equal(tmp_path: Path, make_plan_of: Callable[..., TaskPlan]) -> None:
    figures = {"mean": 99.4, "std": 39.36, "percentile_00_5": -20.0, "percentile_99_5": 215.0}
    plans = (
        make_plan_of(task="liver", normalisation=("ct",), figures=(figures,), spacing=(2.5, 0.79, 0.79)),
        make_plan_of(task="polyp", dimension=2, longest_side=512, patch=(1, 512, 512), mirror_axes=(1, 2)),
    )
    save_plans(plans, tmp_path / "plans.json")
    assert load_plans(tmp_path / "plans.json") == plans


def test_lists_of_numbers_stay_on_one_line(tmp_path: Path, make_plan_of: Callable[..., TaskPlan]) -> None:
    save_plans([make_plan_of(spacing=(2.5, 0.5, 0.5))], tmp_path / "plans.json")
    assert '"spacing": [2.5, 0.5, 0.5],' in (tmp_path / "plans.json").read_text(encoding="utf-8")


def test_brackets_in_a_title_survive(tmp_path: Path, make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of(title="T1 [ \n 1 , 2 ] {x}")
    save_plans([plan], tmp_path / "plans.json")
    assert load_plans(tmp_path / "plans.json") == (plan,)


def test_a_bare_plan_is_accepted(tmp_path: Path, make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of()
    (tmp_path / "one.json").write_text(plan.model_dump_json(), encoding="utf-8")
    assert load_plans(tmp_path / "one.json") == (plan,)


def test_an_edit_that_does_not_hold_is_named_in_one_sentence(
    tmp_path: Path, make_plan_of: Callable[..., TaskPlan]
) -> None:
    path = tmp_path / "plans.json"
    save_plans([make_plan_of()], path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value, said in (
        ("batch", 0, "batch: .*"),
        ("classes", ["liver", "liver"], "classes: .*two classes are called liver"),
        ("classes", ["liver", ""], "classes: .*a class has no name"),
    ):
        wrong = {**content, "plans": [{**content["plans"][0], name: value}]}
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(BadInputError, match=rf"plans\.json do not hold: plans\.0\.{said}") as caught:
            load_plans(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "are not JSON"),
        ("[" * 100_000, "are not JSON"),
        ("[1, 2]", "do not hold"),
        ('{"plans": []}', "do not hold: plans"),
        ('{"plans": [], "extra": 1}', "do not hold"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plans.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=said):
        load_plans(tmp_path / "plans.json")


def test_two_plans_of_one_task_are_refused(tmp_path: Path, make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of().model_dump(mode="json")
    (tmp_path / "plans.json").write_text(json.dumps({"plans": [plan, plan]}), encoding="utf-8")
    with pytest.raises(BadInputError, match="same task name"):
        load_plans(tmp_path / "plans.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.json cannot be read"):
        load_plans(tmp_path / "nowhere.json")
