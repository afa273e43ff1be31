"""Folds: whole patients, every case held back once; trained, measured, and not done twice."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.evaluation import read_reports
from meduniseg_core.training import TrainingConfig, cross_validation
from meduniseg_core.training.cross_validation import REPORTS, cross_validate, fold_config
from meduniseg_core.training.split import Fold, draw_fold, read_splits

PATIENTS = {f"case_{number}": f"p{number // 3 if number < 9 else number}" for number in range(16)}


def test_folds_divide_the_patients_evenly() -> None:
    splits = [draw_fold(PATIENTS, Fold(number, 4), np.random.default_rng(7)) for number in range(4)]
    held = [case for split in splits for case in split.validation]
    assert sorted(held) == sorted(PATIENTS)
    for split in splits:
        assert set(split.train) == set(PATIENTS) - set(split.validation)
        assert not {PATIENTS[case] for case in split.train} & {PATIENTS[case] for case in split.validation}
        assert 3 <= len(split.validation) <= 5
    assert draw_fold(PATIENTS, Fold(0, 4), np.random.default_rng(7)) == splits[0]
    assert draw_fold(PATIENTS, Fold(0, 4), np.random.default_rng(8)) != splits[0]


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(BadInputError, match="2 patients for 5 folds"):
        draw_fold({"a": "p", "b": "p", "c": "q"}, Fold(0, 5), np.random.default_rng(0))


def test_a_fold_that_is_not_there(config: TrainingConfig) -> None:
    with pytest.raises(UsageError, match="folds 0 to 4, not 5"):
        fold_config(config, 5)
    with pytest.raises(ValueError, match="fold is 0 to 2"):
        TrainingConfig.model_validate({**config.model_dump(), "folds": 3, "fold": 3})


def test_each_case_is_measured_by_the_network_that_did_not_see_it(config: TrainingConfig, monkeypatch) -> None:
    short = config.model_copy(update={"folds": 2, "epochs": 1, "iterations_per_dataset": 1, "validation_cases": 1})
    done = cross_validate(short)
    assert [path.name for path in done.models] == ["tiny-fold-0.safetensors", "tiny-fold-1.safetensors"]
    reports = read_reports(config.output / REPORTS)
    assert {task: len(report.cases) for task, report in reports.items()} == {"ball": 4, "disc": 6}
    made = config.output / REPORTS / "disc" / "predictions"
    by = {path.stem: read_splits(config.output / f"fold_{n}" / "cases.json") for n in (0, 1)
          for path in made.glob("*.json") if f"tiny-fold-{n}" in path.read_text()}  # fmt: skip
    assert len(by) == 6 and all(case in split["disc"].validation for case, split in by.items())

    def again(*_: object, **__: object) -> None:
        raise AssertionError("what is trained is trained")

    monkeypatch.setattr(cross_validation, "train", again)
    assert cross_validate(short).reports == done.reports
