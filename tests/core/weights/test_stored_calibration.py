"""A calibration in a model's file: old files have none, and what a stranger wrote is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_model_file import edit_info
from weights_samples import small_info, small_state

from meduniseg_core.errors import BadInputError
from meduniseg_core.weights import read_info, save_model
from meduniseg_core.weights.calibration import Calibration

Edit = Callable[[dict[str, Any]], None]
LOGISTIC = {"features": ["peak"], "centre": [0.0], "scale": [1.0], "weights": [1.0], "bias": 0.0}
SPACE = {
    "mean": [0.0, 1.0],
    "scale": [1.0, 1.0],
    "directions": [[1.0, 0.0]],
    "variances": [2.0],
    "rest": 1.0,
    "distances": [0.5, 1.0],
}


def content() -> dict[str, Any]:
    info = small_info()
    plan = info.tasks[0]
    classes = [{"name": name, "size": [-3.0, 1.0]} for name in plan.classes]
    return {
        "present_found": LOGISTIC,
        "present_missed": LOGISTIC,
        "dice": LOGISTIC,
        "intervals": [{"until": 1.0, "low": 0.2, "high": 0.1}],
        "coverage": 0.8,
        "tasks": [{"task": plan.task, "classes": classes, "space": SPACE, "images": 3}],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    info = small_info().model_copy(update={"calibration": Calibration.model_validate(content())})
    save_model(path, info, small_state())
    return path


def test_it_comes_back_from_the_file(path: Path) -> None:
    info = read_info(path)
    assert info.calibration == Calibration.model_validate(content())
    assert info.calibration.covers(info.tasks[0])


def test_a_file_of_before_has_none(path: Path) -> None:
    edit_info(path, lambda info: info.pop("calibration"))
    assert read_info(path).calibration is None


def at(*keys: Any) -> Callable[[Any], Edit]:
    """An edit that puts a value at a place of the calibration."""

    def put(value: Any) -> Edit:
        def edit(info: dict[str, Any]) -> None:
            place = info["calibration"]
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value

        return edit

    return put


@pytest.mark.parametrize(
    "edit",
    [
        at("dice", "weights")([1.0, 2.0]),
        at("dice", "scale")([0.0]),
        at("dice", "bias")(1e300),
        at("dice", "bias")("one"),
        at("coverage")(1.5),
        at("intervals")([]),
        at("intervals", 0, "until")(0.5),
        at("intervals", 0, "low")(-0.1),
        at("tasks", 0, "space", "mean")([0.0]),
        at("tasks", 0, "space", "directions")([[1.0]]),
        at("tasks", 0, "space", "variances")([-1.0]),
        at("tasks", 0, "space", "distances")([2.0, 1.0]),
        at("tasks", 0, "space", "rest")(0),
        at("tasks", 0, "images")(0),
        at("tasks", 0, "classes")([]),
        at("version")(0),
        at("unknown")(1),
    ],
)
def test_an_impossible_one_is_refused_in_one_sentence(path: Path, edit: Edit) -> None:
    edit_info(path, edit)
    with pytest.raises(BadInputError) as caught:
        read_info(path)
    text = str(caught.value)
    assert "calibration" in text
    assert str(path) in text
    assert "\n" not in text
