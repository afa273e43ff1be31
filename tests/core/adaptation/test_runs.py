"""How a run stands, from what lies in its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meduniseg_core.adaptation import detached
from meduniseg_core.adaptation.jobs import FinetuneJob
from meduniseg_core.adaptation.run import Run, RunStatus
from meduniseg_core.adaptation.runs import free_name, runs
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.training.checkpoint import LAST


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make(tmp_path, "mine-1")


def make(home: Path, name: str) -> Run:
    return Run.create(
        FinetuneJob(name=name, base="b", dataset=Path("x y"), task="t"),
        home,
    )


def say(run: Run, *events: dict[str, object]) -> None:
    with (run.folder / "events.jsonl").open("a") as stream:
        stream.write("a library's warning\n")
        for event in events:
            stream.write(json.dumps(event) + "\n")
        stream.write('{"event": "prog')  # cut off by a kill


def test_a_run_that_was_killed_is_stopped_and_resumable_once_there_is_a_checkpoint(run: Run) -> None:
    say(run, {"event": "progress", "stage": "train", "done": 10, "total": 40, "seconds": 5.0})
    standing = run.standing()
    assert standing.phase == "stopped" and not standing.resumable
    assert standing.progress == ("train", 10, 40, pytest.approx(15.0))
    run.output.mkdir()
    (run.output / LAST).write_bytes(b"")
    assert run.standing().resumable


def test_an_error_is_a_failure_and_an_interruption_is_none(run: Run) -> None:
    say(run, {"event": "error", "message": "Interrupted.", "exit_code": 130})
    assert run.standing().phase == "stopped"
    (run.folder / "events.jsonl").unlink()
    say(run, {"event": "error", "message": "d: no such folder; check it.", "exit_code": 3})
    standing = run.standing()
    assert standing.phase == "failed" and standing.trouble == "d: no such folder; check it."


def test_a_process_that_took_it_up_runs_it_until_it_has_answered(run: Run) -> None:
    run.taken_up()
    process = run.process()
    assert process is not None and process.pid == os.getpid() and run.standing().phase == "running"
    with pytest.raises(UsageError, match="stop it first"):
        run.remove()
    run.answered({"model": Path("m")})
    assert run.standing().phase == "finished" and run.result() == {"model": "m"}


def test_a_process_that_does_not_hear_is_killed_and_its_run_is_stopped_not_in_trouble(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(run, {"event": "progress", "stage": "train", "done": 10, "total": 40, "seconds": 5.0})
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert deaf.stdout is not None and deaf.stdout.readline()  # it does not hear from here on
        detached.note(run.folder / "process.json", deaf.pid)
        assert run.standing().phase == "running"
        stop = detached.stop
        monkeypatch.setattr(detached, "stop", lambda process: stop(process, wait=0.5))
        run.stop()
        assert run.standing() == RunStatus("stopped", ("train", 10, 40, pytest.approx(15.0)))
        run.stop()  # nothing is left to stop
    finally:
        deaf.kill()
        deaf.communicate()


def test_an_old_error_is_not_the_trouble_of_a_run_that_a_terminal_took_up_again(run: Run) -> None:
    say(run, {"event": "error", "message": "old", "exit_code": 3})
    run.taken_up()
    (run.folder / "process.json").unlink()  # killed
    standing = run.standing()
    assert standing.phase == "stopped" and standing.trouble is None


def test_what_was_said_before_the_last_start_is_not_this_process_s_trouble(run: Run) -> None:
    say(run, {"event": "error", "message": "old", "exit_code": 3})
    with (run.folder / "events.jsonl").open("a") as stream:
        stream.write('\n{"event": "start"}\n')
    say(run, {"event": "progress", "stage": "train", "done": 1, "total": 2, "seconds": 1.0})
    standing = run.standing()
    assert standing.phase == "stopped" and standing.trouble == "It ended unexpectedly."


def test_nothing_is_finished_that_has_no_checkpoint_and_nothing_finished_goes_on(run: Run) -> None:
    with pytest.raises(UsageError, match="saved nothing yet"):
        run.start(finish=True)
    run.answered({})
    with pytest.raises(UsageError, match="is finished"):
        run.start()


def test_another_training_does_not_take_over_a_run_s_folder(run: Run) -> None:
    same = run.job
    run.check_same(same, going_on=False)
    with pytest.raises(UsageError, match="another name"):
        run.check_same(same.model_copy(update={"dataset": Path("e")}), going_on=True)
    run.output.mkdir()
    (run.output / LAST).write_bytes(b"")
    run.check_same(same, going_on=True)
    with pytest.raises(UsageError, match="--resume"):
        run.check_same(same, going_on=False)


def test_what_was_asked_for_last_counts_where_it_is_the_same_training(run: Run) -> None:
    def kept() -> FinetuneJob:
        job = Run.at(run.folder).job
        assert isinstance(job, FinetuneJob)
        return job

    run.keep_newer_job(kept().model_copy(update={"iterations": 100}))  # nothing is trained yet
    assert kept().iterations == 100
    run.output.mkdir()
    (run.output / LAST).write_bytes(b"")
    run.keep_newer_job(kept().model_copy(update={"iterations": 200, "compare": False}))
    assert kept().iterations == 100 and kept().compare, "its checkpoint is of another training"
    run.keep_newer_job(kept().model_copy(update={"device": "cpu", "compare": False}))
    assert kept().device == "cpu" and not kept().compare and kept().created == run.job.created


def test_a_process_id_that_was_used_again_is_not_taken_for_the_run(run: Run) -> None:
    (run.folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "created": 1.0}))
    assert run.process() is None
    (run.folder / "process.json").write_text("{")
    assert run.process() is None


def test_runs_are_listed_newest_first_and_names_are_free(tmp_path: Path, run: Run) -> None:
    second = make(tmp_path, "mine-2")
    (tmp_path / "runs" / "stray").mkdir()
    (tmp_path / "runs" / "stray" / "request.json").write_text("{}")
    (tmp_path / "runs" / "astray").mkdir()
    (tmp_path / "runs" / "astray" / "job.json").write_text("{}")
    assert [found.job.name for found in runs(tmp_path)] == ["mine-2", "mine-1"]
    assert free_name("mine", ["mine-3"], tmp_path) == "mine-4"
    with pytest.raises(UsageError, match="already"):
        make(tmp_path, "mine-1")
    second.remove()
    assert [found.job.name for found in runs(tmp_path)] == ["mine-1"]
    with pytest.raises(BadInputError, match="not a run's request"):
        Run.open("stray", tmp_path)
    with pytest.raises(BadInputError, match="not a run's request"):
        Run.open("astray", tmp_path)
    with pytest.raises(UsageError, match="no run called"):
        Run.open("../mine-1", tmp_path)
    assert run.command.startswith("meduniseg finetune 'x y' --output mine-1 --base b ")
