"""Every other output keeps the rule of `outputs`: reports, plans, caches, ledgers replace nothing but theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.corrections import Ledger
from meduniseg_core.corrections.layout import description_text, numbered
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.evaluation import Report, evaluate_folders, write_report
from meduniseg_core.evaluation.writing import report_standing
from meduniseg_core.images import Geometry, Image, write_labels
from meduniseg_core.preprocessing import TaskPlan, load_plans, save_plans
from meduniseg_core.preprocessing.cache import _begin


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("labels")
    array = np.zeros((1, 4, 8, 8), np.uint8)
    array[0, 1:3, 2:5, 2:5] = 1
    for name in ("a", "b"):
        (folder / name).mkdir()
        write_labels(Image(array, Geometry((4, 8, 8), (1.0, 1.0, 1.0))), folder / name / "x.nii.gz")
    return evaluate_folders(folder / "a", folder / "b")


def test_a_report_replaces_a_former_one_and_vouches_for_its_files(tmp_path: Path, report: Report) -> None:
    for _ in range(2):
        files = write_report(report, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(path.name for path in files.values())
    listed = json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert sorted([*listed, "report.json"]) == names
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_text()).cases == report.cases


@pytest.mark.parametrize("name", ["report.csv", "report.html", "report.json", "worst.png"])
def test_a_report_replaces_no_stranger_s_file(tmp_path: Path, report: Report, name: str) -> None:
    (tmp_path / name).write_text('{"cases": []}')
    for attempt in (lambda: write_report(report, tmp_path), lambda: report_standing(tmp_path)):
        with pytest.raises(UsageError, match=rf"{name} exists already"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_report_that_was_changed_since_is_kept(tmp_path: Path, report: Report) -> None:
    write_report(report, tmp_path)
    (tmp_path / "report.html").write_text("with my notes")
    with pytest.raises(UsageError, match=r"report\.html was changed by hand"):
        write_report(report, tmp_path)
    assert (tmp_path / "report.html").read_text() == "with my notes"


def test_a_report_from_before_the_list_vouches_for_what_was_written_with_it(tmp_path: Path, report: Report) -> None:
    write_report(report, tmp_path)
    record = tmp_path / "report.json"
    content = json.loads(record.read_text())
    del content["files"]
    record.write_text(json.dumps(content))
    write_report(report, tmp_path)
    record.write_text(json.dumps(content))
    os.utime(tmp_path / "worst.png", (1e9, 1e9))
    with pytest.raises(UsageError, match=r"worst\.png exists already"):
        write_report(report, tmp_path)


def plan() -> TaskPlan:
    return TaskPlan(
        task="t", modality="ct", dimension=3, channels=("CT",), classes=("x",), spacing=(2.0, 2.0, 2.0),
        patch=(16, 32, 32), normalisation=("zscore",), figures=(None,), crop_to_body=False,
    )  # fmt: skip


def test_plans_are_written_anew_only_where_nothing_appeared_meanwhile(tmp_path: Path) -> None:
    save_plans([plan()], tmp_path / "plans.json", replace=False)
    with pytest.raises(UsageError, match="written by another program"):
        save_plans([plan()], tmp_path / "plans.json", replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["plans.json"]
    assert load_plans(tmp_path / "plans.json") == (plan(),)


@pytest.mark.parametrize("names", [["a.npy"], ["a.json"], ["notes.txt", "a_seg.npy"]])
def test_a_folder_of_other_files_is_no_cache(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadInputError, match="not preprocessed cases"):
        _begin(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_cache_that_was_begun_stays_one_whatever_a_kill_left_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "t"
    _begin(folder)
    (folder / "a.npy").write_bytes(b"no record yet")
    _begin(folder)


def test_a_ledger_replaces_no_description_but_that_of_one_cut_short(tmp_path: Path) -> None:
    settings = {"task": "t", "modality": "ct", "classes": ["x"], "channels": ["CT"]}
    content = {
        "name": tmp_path.name, "modality": "ct", "task": "t", "channel_names": {"0": "CT"}, "labels": numbered(["x"]),
        "numTraining": 0, "file_ending": ".nii.gz", "patient_of": {},
    }  # fmt: skip
    for mine in ('{"name": "my own"}', description_text({**content, "licence": "CC0"}), "no JSON"):
        (tmp_path / "dataset.json").write_text(mine)
        with pytest.raises(BadInputError, match="data set already"):
            Ledger.create(tmp_path, **settings)  # type: ignore[arg-type]
        assert (tmp_path / "dataset.json").read_text() == mine
    (tmp_path / "dataset.json").write_text(description_text(content))
    assert Ledger.create(tmp_path, **settings).task == "t"  # type: ignore[arg-type]
