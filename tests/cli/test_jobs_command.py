"""Trainings in processes of their own do what was asked for, whoever asked and whoever goes on with them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_inputs import save_tiny_model, write_dataset

from meduniseg_core.adaptation import detached, execution, worker
from meduniseg_core.adaptation.jobs import FinetuneJob, Job, RefineJob, command_line
from meduniseg_core.adaptation.run import Run
from meduniseg_core.weights import PackRegistry, Registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of each test's own, with the model ``tiny``."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MEDUNISEG_HOME", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Registry().import_file(save_tiny_model(tmp_path / "tiny.safetensors"))
    return folder


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tests run, nobody works beside a training that it would have to give way to."""
    monkeypatch.setattr(detached, "lower_priority", lambda _pid: None)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Of the base's task 'organ'."""
    return organ(tmp_path / "Dataset001_Organ")


def organ(folder: Path) -> Path:
    write_dataset(folder, ("a", "b", "c", "d"))
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": "organ", "modality": "mri"}))
    return folder


@pytest.mark.parametrize(
    "job",
    [
        FinetuneJob(name="n", base="tiny", dataset=Path(), task="organ"),
        FinetuneJob(
            name="n", base="tiny", dataset=Path(), task="organ", iterations=120, quick=True, modality="fundus",
            leave_out=("a", "b"), seed=5, device="cpu", precision="bf16", compare=False,
        ),
        RefineJob(name="n", base="tiny", datasets=(Path(),), tasks=("organ",)),
        RefineJob(
            name="n", base="tiny", datasets=(Path(),), tasks=("organ",), iterations=60, rank=3, leave_out=("c",),
            compare=False, activate=True, replace=True, device="cpu",
        ),
        RefineJob(name="n", base="tiny", datasets=(Path(),), tasks=("organ",), install=False, seed=9),
    ],
)  # fmt: skip
def test_the_command_that_a_job_shows_asks_for_this_job(
    meduniseg, home: Path, dataset: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []
    monkeypatch.setattr(execution, "take_up", lambda found, _going_on: asked.append(found) or _stop())
    field = {"dataset": dataset} if isinstance(job, FinetuneJob) else {"datasets": (dataset,)}
    job = job.model_copy(update=field)
    meduniseg(*shlex.split(command_line(job))[1:])
    assert [found.model_copy(update={"created": job.created}) for found in asked] == [job]


def _stop() -> None:
    raise KeyboardInterrupt


def test_a_run_of_a_version_before_goes_on_to_its_end(meduniseg, older_home: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("stopped-tune", "stopped-pack"):
        before = Run.open(name).job
        done = meduniseg_in(older_home, meduniseg, "runs", "resume", name)
        assert done.returncode == 0, done.stderr
        run = Run.open(name)
        until(lambda run=run: run.standing().phase == "finished", run)
        assert [line["iteration"] for line in run.log()] == [50, 100], "it went on where it had stopped"
        assert Run.open(name).job == before and (run.folder / "job.json").is_file()
        answer = run.result()
        assert answer is not None and answer["gate"] and run.model_file.is_file()
    assert "stopped-pack" in [entry.name for entry in PackRegistry().list()]


def test_a_run_of_a_version_before_is_finished_or_gone_on_with_from_a_terminal(meduniseg, older_home: Path) -> None:
    words = ("finetune", older_home / "Dataset001_Organ", "--base", "tiny", "-o", "stopped-tune", "--seed", 3)
    options = ("--iterations", 100, "--leave-out", "d", "--modality", "mri", "--device", "cpu", "--precision", "fp32")
    done = meduniseg_in(older_home, meduniseg, *words, *options)
    assert done.returncode == 2 and "go on with it (--resume)" in done.stderr
    done = meduniseg_in(older_home, meduniseg, *words, *options, "--finish", "--no-gate", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["stopped_early"], done.stderr
    assert Run.open("stopped-tune").standing().phase == "finished"


def meduniseg_in(home: Path, meduniseg, *words: object) -> subprocess.CompletedProcess[str]:
    """The command with another data folder than the one all tests share."""
    os.environ["MEDUNISEG_HOME"] = str(home)
    return meduniseg(*words)


def test_going_on_keeps_every_option(older_home: Path) -> None:
    """The command's options are in the job (above), the worker does what the job says: in this process, for speed."""
    packs = PackRegistry()
    (older_home / "runs" / "stopped-pack" / "finish").touch()  # the best so far is another pack than the one at the end
    aside = gone_on_with("stopped-pack", compare=False, install=False)
    assert not (aside.folder / "gate").exists() and "gate" not in (aside.result() or {})
    assert "stopped-pack" not in [entry.name for entry in packs.list()]
    gone_on_with("stopped-pack", compare=False, activate=True)
    former = packs.recorded("stopped-pack")
    assert packs.in_use_for("stopped-pack") == ("organ",)
    (aside.folder / "finish").unlink()
    gone_on_with("stopped-pack", code=2, compare=False)  # another pack of its name is there
    assert packs.recorded("stopped-pack") == former
    gone_on_with("stopped-pack", compare=False, replace=True)
    assert packs.recorded("stopped-pack") != former
    tuned = gone_on_with("stopped-tune", compare=False)
    assert not (tuned.folder / "gate").exists() and "gate" not in (tuned.result() or {})


def gone_on_with(name: str, code: int = 0, **options: object) -> Run:
    """A run, with these options of its job, after its process has ended."""
    run = Run.open(name)
    before = {"install": True, "activate": False} if isinstance(run.job, RefineJob) else {}
    run = Run(run.folder, run.job.model_copy(update={**before, **options}))
    run.keep_job()
    assert worker.main([str(run.folder)]) == code
    assert code or run.standing().phase == "finished"
    return run


def test_a_job_s_file_is_started_under_another_name(meduniseg, home: Path, dataset: Path, tmp_path: Path) -> None:
    words = ("--iterations", 50, "--device", "cpu", "--precision", "fp32", "--no-gate")
    assert meduniseg("finetune", dataset, "--base", "tiny", "-o", "first", *words).returncode == 0
    file = home / "runs" / "first" / "job.json"
    done = meduniseg("runs", "start", file)
    assert done.returncode == 2 and "There is a run called 'first' already" in done.stderr
    done = meduniseg("runs", "start", file, "-o", "second", "--json")
    assert done.returncode == 0, done.stderr
    run = Run.open("second")
    until(lambda: run.standing().phase == "finished", run)
    (first, second) = (json.loads((home / "runs" / name / "job.json").read_text()) for name in ("first", "second"))
    assert {**first, "name": "second", "created": second["created"]} == second
    # of a stranger, who wrote nonsense; and of one whose data are not here
    for change, code, said in (({"rank": 3}, 3, "is not a training job"), ({"dataset": "/nowhere"}, 0, "")):
        (tmp_path / "job.json").write_text(json.dumps({**first, **change, "name": "third"}))
        done = meduniseg("runs", "start", tmp_path / "job.json")
        assert done.returncode == code and said in done.stderr
    run = Run.open("third")
    until(lambda: run.standing().phase == "failed", run)
    assert "/nowhere" in str(run.standing().trouble) and "Traceback" not in (run.folder / "events.jsonl").read_text()


def test_a_bug_in_the_worker_is_a_failure_with_its_traceback(home: Path, dataset: Path, meduniseg) -> None:
    run = Run.create(FinetuneJob(name="a", base="tiny", dataset=dataset, task="organ", device="cpu"))
    (run.folder / "cache").write_text("a file where a folder is to be")
    run.start()
    until(lambda: run.standing().phase == "failed", run)
    assert str(run.standing().trouble).startswith(str(run.folder / "cache"))


def until(found: Callable[[], object], run: Run | None = None) -> None:
    for _ in range(1200):
        if found():
            return
        time.sleep(0.1)
    raise AssertionError((run.folder / "events.jsonl").read_text()[-2000:] if run is not None else "not in two minutes")
