"""The forecast of a training: by the pace of its base before the first run, by former runs of its kind then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_network import write_discs

from meduniseg_core.adaptation.expected_time import expected_time
from meduniseg_core.adaptation.jobs import finetune_job
from meduniseg_core.adaptation.run import Run
from meduniseg_core.weights import Model

DESCRIPTION = {
    "channel_names": {"0": "grey"}, "labels": {"background": 0, "disc": 1}, "numTraining": 6, "file_ending": ".png",
    "modality": "xray", "task": "disc",
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_discs(tmp_path / "discs")
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def test_before_the_first_run_it_grows_with_the_steps_and_writes_nothing(
    tmp_path: Path, base: Model, data: Path
) -> None:
    job = finetune_job(data, "new", str(tmp_path / "base.safetensors"), iterations=100, device="cpu")
    short = expected_time(job, (), tmp_path / "runs" / "new")
    long = expected_time(job.model_copy(update={"iterations": 100_000}), (), tmp_path / "runs" / "new")
    assert short is not None and long is not None
    assert 0 < short[0] < short[1] and long[0] > 20 * short[1]
    assert not (tmp_path / "runs").exists()


def test_then_former_runs_of_its_kind_tell_and_no_others(tmp_path: Path, base: Model, data: Path) -> None:
    job = finetune_job(data, "new", str(tmp_path / "base.safetensors"), iterations=200, device="cpu")

    def former(name: str, seconds: float, **changes: object) -> Run:
        run = Run.create(job.model_copy(update={"name": name, **changes}), tmp_path / "home")
        run.output.mkdir()
        (run.output / "log.jsonl").write_text(json.dumps({"epoch": 0, "iteration": 50, "seconds": seconds}) + "\n")
        return run

    others = [
        former("faster", 0.01, quick=True),
        former("elsewhere", 0.01, device="cuda"),
    ]
    begun = Run.create(job.model_copy(update={"name": "begun"}), tmp_path / "home")
    known = expected_time(job, [former("one", 100.0), former("two", 150.0), begun, *others], tmp_path / "new")
    assert known == (pytest.approx(200 * 2.0 / 1.3), pytest.approx(200 * 3.0 * 1.3))
