"""``meduniseg runs``: from a fine-tuning to a model in use, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_inputs import save_tiny_model, write_dataset

from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.run import Run
from meduniseg_core.files import sha256_of
from meduniseg_core.weights import Registry

QUICK = ("--iterations", 50, "--modality", "mri", "--device", "cpu", "--precision", "fp32", "--json")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder of each test's own."""
    return tmp_path / "home"


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A data set and a model to start from."""
    dataset = write_dataset(tmp_path / "Dataset001_Blob", ("a", "b", "c", "d"))
    return dataset, save_tiny_model(tmp_path / "tiny.safetensors")


def test_a_finished_run_is_listed_compared_adopted_and_rolled_back(meduniseg, inputs, home) -> None:
    dataset, base = inputs
    before = sha256_of(base)
    done = meduniseg("finetune", dataset, "--base", base, "-o", "mine-1", *QUICK)
    assert done.returncode == 0, done.stderr
    gate = json.loads(done.stdout)["gate"]
    # the base has no task "blob": there is nothing to be worse than
    assert gate["verdict"] == "first" and gate["recommended"] and gate["dice_before"] is None
    page = Path(gate["html"]).read_text()
    assert "tiny does not know this task" in page and "src='data:image/png" in page and "Empty masks" in page
    report = GateReport.model_validate_json((home / "runs" / "mine-1" / "gate" / "gate.json").read_bytes())
    split = json.loads((home / "runs" / "mine-1" / "run" / "split.json").read_text())["blob"]
    assert [pair.after.case for pair in report.pairs] == split["validation"] and split["validation"]
    assert (home / "runs" / "mine-1" / "gate" / "after" / "report.html").is_file()

    listed = json.loads(meduniseg("runs", "list", "--json").stdout)
    assert [(run["name"], run["state"], run["decision"]) for run in listed["runs"]] == [("mine-1", "finished", None)]
    assert listed["in_use"] == {}
    done = meduniseg("runs", "adopt", "mine-1", "--json")
    assert json.loads(done.stdout) == {"task": "blob", "model": "mine-1"}, done.stderr
    assert json.loads(meduniseg("runs", "list", "--json").stdout)["in_use"] == {"blob": "mine-1"}
    assert meduniseg("segment", dataset / "imagesTr", "-o", home / "out", "--model", "mine-1").returncode == 0
    done = meduniseg("runs", "discard", "mine-1")
    assert done.returncode == 2 and "roll back first" in done.stderr

    done = meduniseg("runs", "rollback", "blob", "--json")
    assert json.loads(done.stdout) == {"task": "blob", "taken_back": "mine-1", "in_use": None}
    assert "mine-1" in [entry.name for entry in Registry().list()]
    again = meduniseg("runs", "rollback", "blob")
    assert again.returncode == 2 and "No model or pack is in use for the task 'blob'" in again.stderr
    assert meduniseg("runs", "discard", "mine-1").returncode == 0
    assert not (home / "runs" / "mine-1").exists() and sha256_of(base) == before


def test_a_second_round_that_became_worse_is_not_adopted_by_default_and_says_why(meduniseg, inputs, home) -> None:
    dataset, base = inputs
    done = meduniseg("finetune", dataset, "--base", base, "-o", "mine-1", *QUICK)
    first = home / "runs" / "mine-1" / "run" / "mine-1.safetensors"
    # a base that is far better than what 50 iterations from noise can reach: its own labels are the truth
    done = meduniseg("finetune", dataset, "--base", first, "-o", "mine-2", "--seed", 0, *QUICK)
    assert done.returncode == 0, done.stderr
    gate_file = home / "runs" / "mine-2" / "gate" / "gate.json"
    content = json.loads(gate_file.read_text())
    for pair in content["pairs"]:
        pair["before"]["classes"][0]["dice"] = 0.99
        pair["after"]["classes"][0]["dice"] = 0.5
    gate_file.write_text(json.dumps(content))
    done = meduniseg("runs", "adopt", "mine-2")
    assert done.returncode == 2
    assert "The mean did not rise." in done.stderr and "blob became worse (0.990 to 0.500)" in done.stderr
    assert "mine-2" not in [entry.name for entry in Registry().list()]
    assert meduniseg("runs", "adopt", "mine-2", "--anyway").returncode == 0
    assert json.loads(meduniseg("runs", "list", "--json").stdout)["in_use"] == {"blob": "mine-2"}
    done = meduniseg("finetune", dataset, "--base", first, "-o", "mine-2", *QUICK)
    assert done.returncode == 2 and "There is a run called 'mine-2' already" in done.stderr


def test_a_run_with_cases_left_out_never_sees_them(meduniseg, inputs, home) -> None:
    dataset, base = inputs
    done = meduniseg("finetune", dataset, "--base", base, "-o", "mine-1", "--leave-out", "a", *QUICK, "--no-gate")
    assert done.returncode == 0, done.stderr
    assert Run.open("mine-1").job.leave_out == ("a",)
    done = meduniseg(
        "finetune", dataset, "--base", base, "-o", "b", *QUICK, *(w for c in "abcd" for w in ("--leave-out", c))
    )
    assert done.returncode == 3 and "no training cases left" in done.stderr
    done = meduniseg("finetune", dataset, "--base", base, "-o", "c", *QUICK, "--leave-out", "aa")
    assert done.returncode == 2 and "no case 'aa' to leave out" in done.stderr and "nearest is 'a'" in done.stderr


def test_names_that_are_none_and_taken_ones_are_refused(meduniseg, home) -> None:
    done = meduniseg("runs", "adopt", "nothing")
    assert done.returncode == 2 and "no run called 'nothing'" in done.stderr
    assert meduniseg("runs", "gate", "../x").returncode == 2


def test_a_killed_training_resumes_and_a_stopped_one_becomes_a_model(
    inputs, home, monkeypatch: pytest.MonkeyPatch, meduniseg
) -> None:
    dataset, base = inputs
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ("--iterations", "400", "--modality", "mri", "--device", "cpu", "--precision", "fp32")
    command = [sys.executable, "-m", "training_cli", "finetune", dataset, "--base", base, "-o", "mine-1", *options]
    started = subprocess.Popen([*map(str, command), "--progress", "none"], stdout=subprocess.DEVNULL)
    run = _until(lambda: _opened("mine-1"))
    _until(lambda: run.has_checkpoint)
    assert run.standing().phase == "running"
    again = meduniseg("finetune", dataset, "--base", base, "-o", "mine-1", "--resume", *options)
    assert again.returncode == 3 and "another process trains there" in again.stderr
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    standing = run.standing()
    assert standing.phase == "stopped" and standing.resumable

    run.start()  # goes on in a process of its own
    epochs = len(run.log())
    _until(lambda: len(run.log()) > epochs)
    assert run.standing().phase == "running" and run.process() is not None
    progress = run.standing().progress
    assert progress is not None and progress[0] == "train"
    run.stop()
    assert run.standing().phase == "stopped"
    trained = len(run.log())
    run.start(finish=True)
    _until(lambda: run.standing().phase == "finished", run)
    assert len(run.log()) == trained < 8
    answer = run.result()
    assert answer is not None and answer["stopped_early"] and answer["gate"]["verdict"] == "first"
    assert run.model_file.is_file()


def _opened(name: str) -> Run | None:
    try:
        return Run.open(name)
    except Exception:
        return None


def _until(found, run: Run | None = None):
    for _ in range(1200):
        value = found()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError((run.folder / "events.jsonl").read_text()[-2000:] if run is not None else "not in two minutes")
