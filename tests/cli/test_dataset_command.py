"""``meduniseg dataset``, on a small data set of noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_inputs import write_dataset

from training_cli.main import main


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "Dataset001_Blob", ("a", "b"))


def test_a_sound_data_set_is_fit_for_use(dataset, capsys) -> None:
    assert main(("dataset", "check", str(dataset), "--json")) == 0
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (report["task"], report["cases"], report["problems"]) == ("blob", {"Tr": 2, "Ts": 0}, [])


def test_a_problem_is_named_with_exit_code_3(dataset, capsys) -> None:
    (dataset / "labelsTr" / "b.nii.gz").unlink()
    assert main(("dataset", "check", str(dataset))) == 3
    assert "b.nii.gz" in capsys.readouterr().out


def test_plan_then_preprocess_by_the_plan(dataset, tmp_path, capsys) -> None:
    plans, cache = tmp_path / "plans.json", tmp_path / "cache"
    assert main(("dataset", "plan", str(dataset), "-o", str(plans))) == 0
    capsys.readouterr()
    assert main(("dataset", "preprocess", str(dataset), "-o", str(cache), "--plans", str(plans), "--json")) == 0
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    assert report == {"task": "blob", "folder": str(cache / "blob"), "cases": 2}
    assert (cache / "blob" / "a.npy").is_file()


def test_plans_that_may_have_been_edited_are_not_overwritten(dataset, tmp_path, capsys) -> None:
    plans = tmp_path / "plans.json"
    plans.write_text("edited")
    assert main(("dataset", "plan", str(dataset), "-o", str(plans))) == 2
    assert plans.read_text() == "edited"
    assert main(("dataset", "plan", str(dataset), "-o", str(plans), "--replace")) == 0
    assert json.loads(plans.read_text())


def test_one_task_in_two_data_sets_is_refused(dataset, tmp_path, capsys) -> None:
    assert main(("dataset", "plan", str(dataset), str(dataset), "-o", str(tmp_path / "plans.json"))) == 2
    assert "blob" in capsys.readouterr().err


def test_a_folder_without_dataset_json_is_bad_input(tmp_path, capsys) -> None:
    assert main(("dataset", "check", str(tmp_path))) == 3
    assert "dataset.json" in capsys.readouterr().err
