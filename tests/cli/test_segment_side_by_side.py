"""``segment`` with several cases at once on a CPU: the results of a plain run, whatever fails or ends it."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest
from small_inputs import write_volume

from meduniseg_core.archive import read_manifest
from meduniseg_core.files import sha256_of
from training_cli import case_run, case_work

CASES = 5


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(CASES):
        write_volume(tmp_path / "in" / f"case{number}.nii.gz", (16, 32, 32), seed=number)
    return tmp_path / "in"


@pytest.fixture
def run(meduniseg, tiny_model, images, tmp_path):
    """Segment the folder into tmp_path / NAME."""

    def go(name: str, *options):
        common = ["-m", tiny_model, "-t", "organ", "--precision", "fp32", "--json", "--progress", "json"]
        return meduniseg("segment", images, "-o", tmp_path / name, *common, *options)

    return go


@pytest.fixture
def meeting(monkeypatch) -> None:
    """The first two cases at work wait for each other, so that two really are at once."""
    whole, met, begun = case_work.CaseWork.work, threading.Barrier(2), iter(range(CASES))

    def work(self, ready, events, **how):
        if next(begun, CASES) < 2:
            met.wait(120)
        return whole(self, ready, events, **how)

    monkeypatch.setattr(case_work.CaseWork, "work", work)


def labels_in(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.nii.gz"))}


def events_of(done) -> list[dict]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_results_are_those_of_one_case_after_the_other(run, meduniseg, meeting, tmp_path) -> None:
    several = run("several", "--at-once", "2", "--manifest", tmp_path / "RUN.jsonl")
    assert several.returncode == 0, several.stderr
    told = json.loads(several.stdout)
    assert told["cases_at_once"] == 2
    assert [result["case"] for result in told["results"]] == [f"case{number}" for number in range(CASES)]
    single = run("single", "--at-once", "1")
    assert single.returncode == 0 and json.loads(single.stdout)["cases_at_once"] == 1
    assert (
        labels_in(tmp_path / "several") == labels_in(tmp_path / "single") and len(labels_in(tmp_path / "single")) == 5
    )
    assert sorted(line.case for line in read_manifest(tmp_path / "RUN.jsonl").records) == [
        f"case{number}" for number in range(CASES)
    ]
    assert meduniseg("runs", "verify", tmp_path / "RUN.jsonl", "--inputs").returncode == 0


def test_progress_names_the_cases_at_work_and_a_case_speaks_when_it_ends(run, meeting, monkeypatch) -> None:
    from meduniseg_core.events import Message

    whole = case_work.CaseWork.work

    def work(self, ready, events, **how):
        events(Message("info", f"at work on {ready.case.name}"))
        return whole(self, ready, events, **how)

    monkeypatch.setattr(case_work.CaseWork, "work", work)
    events = events_of(run("out", "--at-once", "2"))
    cases = [event for event in events if event["event"] == "progress" and event["stage"] == "cases"]
    assert len(cases) == CASES and cases[0]["detail"] == "case0" and cases[1]["detail"] == "case0, case1"
    assert [event["total"] for event in cases] == [CASES] * CASES
    done = [event["done"] for event in cases]
    assert done == sorted(done) and done[0] == 0 and done[-1] < CASES
    windows = [event for event in events if event["event"] == "progress" and event["stage"] == "segment"]
    assert windows and all(0 <= event["done"] <= event["total"] for event in windows)
    spoken = [event for event in events if event.get("text", "").startswith("at work") or event["event"] == "casedone"]
    assert len(spoken) == 2 * CASES
    for said, ended in zip(spoken[::2], spoken[1::2], strict=True):
        assert said["text"] == f"at work on {ended['case']}" and ended["event"] == "casedone"


def test_one_damaged_case_costs_itself(run, images, tmp_path) -> None:
    assert run("whole", "--at-once", "1").returncode == 0
    damaged = images / "case2.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    done = run("out", "--at-once", "3", "--manifest", tmp_path / "RUN.jsonl")
    assert done.returncode == 3
    assert [failed["case"] for failed in json.loads(done.stdout)["failed"]] == ["case2"]
    wanted = labels_in(tmp_path / "whole")
    del wanted["case2.nii.gz"]
    assert labels_in(tmp_path / "out") == wanted
    states = {line.case: line.status for line in read_manifest(tmp_path / "RUN.jsonl").records}
    assert states == {f"case{number}": "failed" if number == 2 else "done" for number in range(CASES)}


def test_where_memory_is_short_cases_are_done_one_by_one(run, meduniseg, monkeypatch, tmp_path) -> None:
    assert run("whole", "--at-once", "1").returncode == 0
    monkeypatch.setattr(case_work.CaseWork, "free", staticmethod(lambda: 0))
    done = run("out", "--at-once", "4")
    assert done.returncode == 0 and json.loads(done.stdout)["cases_at_once"] == 1
    assert labels_in(tmp_path / "out") == labels_in(tmp_path / "whole")


def test_a_case_for_which_memory_runs_out_beside_others_is_done_again_alone(run, monkeypatch, tmp_path) -> None:
    assert run("whole", "--at-once", "1").returncode == 0
    whole, alone = case_work.CaseWork.work, dict[str, bool]()

    def work(self, ready, events, *, fall_back=True):
        alone[ready.case.name] = fall_back
        if ready.case.name == "case1" and not fall_back:
            raise MemoryError
        return whole(self, ready, events, fall_back=fall_back)

    monkeypatch.setattr(case_work.CaseWork, "work", work)
    done = run("out", "--at-once", "2")
    assert done.returncode == 0, done.stderr
    warnings = [event["text"] for event in events_of(done) if event.get("level") == "warning"]
    assert len(warnings) == 1 and "case1 is done again" in warnings[0]
    assert alone["case1"] and alone["case4"] and not alone["case0"]
    assert labels_in(tmp_path / "out") == labels_in(tmp_path / "whole")


def test_the_need_of_a_case_is_estimated_with_what_was_asked_for(run, monkeypatch) -> None:
    needs: list[int] = []
    whole = case_work.CaseWork.need

    def need(self, ready):
        needs.append(whole(self, ready))
        return needs[-1]

    monkeypatch.setattr(case_work.CaseWork, "need", need)
    assert run("plain", "--at-once", "2").returncode == 0
    assert run("more", "--at-once", "2", "--probabilities").returncode == 0
    assert len(needs) == 2 * CASES and min(needs) > 0 and min(needs[CASES:]) > max(needs[:CASES])


def test_the_cores_decide_and_a_single_case_runs_as_ever(
    run, meduniseg, images, tiny_model, monkeypatch, tmp_path
) -> None:
    counts: list[int] = []
    whole = case_run.CaseRun._at_once

    def at_once(self, cases):
        counts.append(whole(self, cases))
        return counts[-1]

    monkeypatch.setattr(case_run.CaseRun, "_at_once", at_once)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    for cores in (1, 2, 8):
        monkeypatch.setattr("meduniseg_core.allowance.usable_cores", lambda cores=cores: cores)
        assert run(f"out{cores}").returncode == 0
    assert counts == [1, 2, 3]
    one = ("segment", images / "case0.nii.gz", "-o", tmp_path / "one", "-m", tiny_model, "-t", "organ")
    assert meduniseg(*one).returncode == 0 and counts[-1] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_cases_at_work_and_what_is_there_is_whole(
    number, meduniseg, tiny_model, interrupt, tmp_path
) -> None:
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "a.nii.gz", (16, 32, 32))
    for name in "bc":
        write_volume(tmp_path / "in" / f"{name}.nii.gz", (40, 150, 150))
    command = ["segment", tmp_path / "in", "-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--overlap", "0.9"]
    command += ["--at-once", "2", "--manifest", tmp_path / "RUN.jsonl", "--precision", "fp32"]
    ended = interrupt(
        *command, at=lambda event: sorted(event["detail"]) == [" ", ",", "b", "c"] and event["done"] > 0, number=number
    )
    assert ended.returncode == 130 and ended.stdout == ""
    assert "1 of 3 cases are done" in ended.error["message"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.nii.gz"]
    assert [line.case for line in read_manifest(tmp_path / "RUN.jsonl").records] == ["a"]
