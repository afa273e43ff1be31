"""``meduniseg worklist``: lists, predicts and skips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCommand
from small_inputs import write_scans


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "cases")


def test_cases_are_predicted_skipped_and_listed(meduniseg: RunCommand, cases: Path, tiny_model: Path) -> None:
    common = ("worklist", cases, "--task", "vessel", "--model", tiny_model)
    (cases / "broken.nii.gz").write_bytes(b"nothing")
    done = meduniseg(*common, "--predict", "broken", "--predict-next", 1, "--skip", "scan2", "--json")
    assert done.returncode == 3 and "broken: " in done.stderr
    answer = json.loads(done.stdout)
    assert {row["case"]: row["state"] for row in answer["cases"]} == {
        "broken": "new",
        "scan0": "predicted",
        "scan1": "new",
        "scan2": "skipped",
    }
    assert [one["case"] for one in answer["failed"]] == ["broken"]
    assert Path(answer["results"]) == cases.with_name("cases_vessel")
    known = next(row for row in answer["cases"] if row["case"] == "scan0")
    assert Path(known["labels"]).is_file() and 0 < known["worth"] <= 1 and known["novelty"] == 1
    again = meduniseg(*common, "--take-up", "scan2", "--sort", "worth")
    assert again.returncode == 0 and "vessel: 4 case(s), 4 to do" in again.stdout
    rows = [line.split()[0] for line in again.stdout.splitlines() if line.startswith(("scan", "broken"))]
    assert rows == ["scan0", "broken", "scan1", "scan2"]


def test_what_is_missing_is_said(meduniseg: RunCommand, cases: Path, tiny_model: Path) -> None:
    assert "give --task" in meduniseg("worklist", cases, "--model", tiny_model).stderr
    unknown = meduniseg("worklist", cases, "--task", "vessel", "--model", tiny_model, "--skip", "nobody")
    assert unknown.returncode == 2 and "There is no case 'nobody'" in unknown.stderr
    other = meduniseg("worklist", cases, "--task", "spine", "--model", tiny_model, "--predict-next", 1)
    assert other.returncode == 2 and "spine" in other.stderr
    assert meduniseg("worklist", cases, "--task", "spine", "--model", tiny_model).returncode == 0  # listing needs none
