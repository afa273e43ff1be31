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
    seconds, size = report.pop("seconds"), report.pop("bytes")
    assert report == {
        "task": "blob",
        "folder": str(cache / "blob"),
        "cases": 2,
        "made": 2,
        "voxels": 2 * 16 * 32 * 32,
        "median_shape": [16, 32, 32],
        "class_voxels": {"blob": 2 * 6 * 12 * 12},
    }
    assert seconds >= 0 and size == sum(path.stat().st_size for path in (cache / "blob").glob("[ab]*"))
    assert (cache / "blob" / "a.npy").is_file()


def test_a_shard_does_its_part_and_the_planner_is_asked_once(dataset, tmp_path, capsys) -> None:
    cache = ("-o", str(tmp_path / "cache"), "--json")
    for shard, made in (("1/2", 1), ("2/2", 1), ("1/2", 0)):
        words = ("--planner", "nnunet", "--shard", shard, "--only-changed")
        assert main(("dataset", "preprocess", str(dataset), *words, *cache)) == 0
        (report,) = json.loads(capsys.readouterr().out)["datasets"]
        assert (report["cases"], report["made"]) == (1, made)
    assert main(("dataset", "preprocess", str(dataset), *cache)) == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["made"] == 0
    plans = tmp_path / "plans.json"
    assert main(("dataset", "plan", str(dataset), "-o", str(plans), "--planner", "paper")) == 0
    wrong = ("--plans", str(plans), "--planner", "nnunet", *cache)
    assert main(("dataset", "preprocess", str(dataset), *wrong)) == 2
    assert "leave --planner" in capsys.readouterr().err


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


def _spleens(folder: Path) -> Path:
    """The Decathlon's layout: with the labels of a NIfTI file per case, and a dataset.json of nnU-Net v1."""
    made = write_dataset(folder / "made", ("spleen_1", "spleen_2", "spleen_3", "spleen_4", "spleen_5"))
    task = folder / "Task09_Spleen"
    for part in ("imagesTr", "labelsTr"):
        (task / part).mkdir(parents=True)
        for path in (made / part).iterdir():
            path.rename(task / part / path.name.replace("_0000", ""))
    (task / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}')
    return task


def test_a_download_is_converted_and_then_fit_for_use(tmp_path, capsys) -> None:
    task, folder = _spleens(tmp_path), tmp_path / "spleen"
    assert main(("dataset", "convert", "spleen", str(task), "-o", str(folder), "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["dataset"], report["cases"], report["converted"]) == ("MSD-Spleen", {"Tr": 4, "Ts": 1}, 5)
    assert "in the paper 32 and 9" in report["deviations"][0]
    assert main(("dataset", "check", str(folder))) == 0
    assert main(("dataset", "convert", "spleen", str(task), "-o", str(folder))) == 0
    assert "0 converted now" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "plan"])
def test_a_download_is_recognised_where_a_data_set_is_expected(command, tmp_path, capsys) -> None:
    assert main(("dataset", command, str(_spleens(tmp_path)))) == 3
    assert "meduniseg dataset convert MSD-Spleen" in capsys.readouterr().err


def test_a_case_that_cannot_be_converted_is_exit_code_3(tmp_path, capsys) -> None:
    task = _spleens(tmp_path)
    (task / "labelsTr" / "spleen_2.nii.gz").write_bytes(b"no NIfTI")
    assert main(("dataset", "convert", "MSD-Spleen", str(task), "-o", str(tmp_path / "spleen"))) == 3
    assert "not converted: spleen_2: " in capsys.readouterr().out


def test_all_layouts_are_listed(capsys) -> None:
    assert main(("dataset", "layouts", "--json")) == 0
    entries = json.loads(capsys.readouterr().out)["datasets"]
    assert len(entries) == 23
    assert entries[0]["name"] == "LiTS" and entries[0]["train"] == 104
    assert main(("dataset", "layouts")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("LiTS (liver): volume-N.nii") and len(printed) == 46


def test_an_unknown_data_set_is_wrong_usage(tmp_path, capsys) -> None:
    assert main(("dataset", "convert", "splen", str(tmp_path), "-o", str(tmp_path / "o"))) == 2
    assert "did you mean MSD-Spleen" in capsys.readouterr().err
