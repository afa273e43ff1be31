"""Decisions on a run of several tasks (a refinement started from a job file): the gate of every task counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from meduniseg_core.adaptation import decisions
from meduniseg_core.adaptation.gate_files import write_gate
from meduniseg_core.adaptation.gate_report import GateReport, Pair
from meduniseg_core.adaptation.jobs import RefineJob
from meduniseg_core.adaptation.run import Run
from meduniseg_core.errors import UsageError
from meduniseg_core.evaluation import CaseScores, ClassScores
from meduniseg_core.files import sha256_of
from meduniseg_core.weights import ActiveModels, InUse

TASKS = ("liver", "spleen")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    made = Run.create(RefineJob(name="both-1", base="b", datasets=(Path("l"), Path("s")), tasks=TASKS))
    made.output.mkdir()
    made.model_file.write_bytes(b"a pack")
    made.answered({"pack": "both-1"})
    return made


def scores(dice: float) -> CaseScores:
    only = ClassScores(
        label=1, name="organ", dice=dice, hd95=3.0, surface_dice=dice, prediction_volume=1.0, reference_volume=1.0
    )
    return CaseScores(case="x", dimension=3, unit="mm", classes=(only,))


def judged(run: Run, task: str, before: float, after: float) -> None:
    pair = Pair(before=scores(before), after=scores(after))
    digest = sha256_of(run.model_file)
    report = GateReport(
        task=task, base="b", base_sha256="0", candidate=run.job.name, candidate_sha256=digest, pairs=(pair,)
    )
    write_gate(report, decisions.gate_folder(run, task))


def test_a_run_is_adopted_once_every_task_was_compared_and_none_became_worse(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    active: list[tuple[str, tuple[str, ...]]] = []
    packs = SimpleNamespace(
        install=lambda path: SimpleNamespace(name=path.stem),
        activate=lambda name, tasks: active.append((name, tuple(tasks))),
    )
    monkeypatch.setattr(decisions, "PackRegistry", lambda: packs)
    judged(run, "liver", 0.5, 0.7)
    with pytest.raises(UsageError, match="not compared"):
        decisions.adopt(run)
    judged(run, "spleen", 0.7, 0.5)
    with pytest.raises(UsageError, match=r"spleen: Mean Dice 0\.700 before"):
        decisions.adopt(run)
    judged(run, "spleen", 0.7, 0.8)
    assert decisions.adopt(run) == "both-1" and active == [("both-1", TASKS)]


def test_a_pack_that_its_gate_found_worse_is_put_into_use_only_if_that_is_insisted_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    active: list[tuple[str, ...] | None] = []
    packs = SimpleNamespace(
        find=lambda _name: SimpleNamespace(path=run.model_file),
        activate=lambda _name, tasks: active.append(tasks) or TASKS,
    )
    monkeypatch.setattr(decisions, "PackRegistry", lambda: packs)
    assert decisions.worse_pack("both-1") is None, "it was not compared"
    judged(run, "liver", 0.5, 0.7)
    judged(run, "spleen", 0.7, 0.5)
    with pytest.raises(UsageError, match=r"spleen: Mean Dice 0\.700 before.*--anyway"):
        decisions.activate_pack("both-1")
    decisions.activate_pack("both-1", ("liver",))
    decisions.activate_pack("both-1", anyway=True)
    assert active == [("liver",), None]
    run.model_file.write_bytes(b"another pack of that name")
    assert decisions.worse_pack("both-1") is None, "the report is of the former pack"


def test_a_pack_without_a_run_is_not_known_to_be_worse(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = SimpleNamespace(find=lambda _name: SimpleNamespace(path=run.model_file))
    monkeypatch.setattr(decisions, "PackRegistry", lambda: packs)
    assert decisions.worse_pack("from-elsewhere") is None


def test_a_run_in_use_for_any_of_its_tasks_is_not_discarded_but_rolled_back(run: Run) -> None:
    entry = InUse(kind="pack", model="both-1", base="b", when=datetime.now(UTC))
    ActiveModels().take(["spleen", "kidney"], entry)
    assert decisions.in_use(run)
    with pytest.raises(UsageError, match="roll back first"):
        decisions.discard(run)
    assert decisions.roll_back(run) is None
    assert not decisions.in_use(run) and ActiveModels().all()["kidney"] == "both-1", "which is not the run's"
    decisions.discard(run)
    assert not run.folder.exists()
