"""Jobs as data: whole on the disk, and those of versions before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import meduniseg_core
from meduniseg_core.adaptation.jobs import FinetuneJob, Job, RefineJob, job_text, read_job, renamed, same_training
from meduniseg_core.adaptation.run import Run
from meduniseg_core.adaptation.runs import runs
from meduniseg_core.errors import BadInputError, UsageError

TUNING = FinetuneJob(
    name="a", base="b", dataset=Path("/d"), task="t", iterations=7, quick=True, modality="mri", leave_out=("x", "-y"),
    seed=3, device="cuda:1", precision="fp32", compare=False,
)  # fmt: skip
REFINING = RefineJob(
    name="a", base="b", datasets=(Path("/d"), Path("/e")), tasks=("t", "u"), rank=4, activate=True, replace=True
)


@pytest.mark.parametrize("job", [TUNING, REFINING, RefineJob(name="a", base="b", datasets=(Path("/d"),), tasks=("t",),
                                                             install=False)])  # fmt: skip
def test_a_job_is_whole_on_the_disk(tmp_path: Path, job: Job) -> None:
    path = tmp_path / "job.json"
    path.write_text(job_text(job), "utf-8")
    assert read_job(path) == job


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_data_set_whose_name_is_no_text(tmp_path: Path) -> None:
    job = TUNING.model_copy(update={"dataset": Path(os.fsdecode(b"/b\xe4d"))})
    (tmp_path / "job.json").write_text(job_text(job), "utf-8")
    assert read_job(tmp_path / "job.json") == job


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "train"},
        {"name": "../x"},
        {"iterations": 0},
        {"precision": "fp8"},
        {"device": "cpu; rm -rf /"},
        {"--resume": True},  # an option that this version does not know would be lost
        {"leave_out": "abc"},
        {"created": "yesterday"},
    ],
)
def test_a_stranger_s_file_is_checked(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({**json.loads(job_text(TUNING)), **change}))
    with pytest.raises(BadInputError, match=r"job\.json: is not a training job"):
        read_job(path)
    for text in ("", "[]", "{", "[" * 100_000, "\x00"):
        path.write_text(text)
        with pytest.raises(BadInputError, match=r"job\.json: is not a training job"):
            read_job(path)


def test_what_contradicts_itself_is_no_job() -> None:
    with pytest.raises(ValueError, match="not installed cannot be put into use"):
        RefineJob(name="a", base="b", datasets=(Path("/d"),), tasks=("t",), install=False, activate=True)
    with pytest.raises(UsageError, match="'a b' cannot be a name"):
        renamed(TUNING, "a b")
    again = renamed(REFINING, "other")
    assert again.name == "other" and again.created > REFINING.created
    assert again.model_copy(update={"name": "a", "created": REFINING.created}) == REFINING


def test_what_happens_afterwards_changes_no_training() -> None:
    assert same_training(REFINING, REFINING.model_copy(update={"replace": False, "activate": False, "device": "cpu"}))
    assert not same_training(REFINING, REFINING.model_copy(update={"rank": 8}))
    assert not same_training(TUNING, TUNING.model_copy(update={"quick": False}))


def test_runs_of_a_version_before_are_known_with_their_options(older_home: Path) -> None:
    found = {run.job.name: run for run in runs()}
    assert sorted(found) == [
        "from-viewer", "organ-1", "organ-pack", "pack-from-viewer", "stopped-pack", "stopped-tune"
    ]  # fmt: skip
    dataset = older_home / "Dataset001_Organ"
    tuning, viewer = found["stopped-tune"].job, found["from-viewer"].job
    assert tuning == FinetuneJob(
        name="stopped-tune", base="tiny", dataset=dataset, task="organ", iterations=100, seed=3, device="cpu",
        precision="fp32", modality="mri", leave_out=("d",), created=tuning.created,
    )  # fmt: skip
    assert isinstance(viewer, FinetuneJob) and viewer.quick and viewer.leave_out == ("a", "c")
    packs = found["stopped-pack"].job, found["pack-from-viewer"].job
    assert all(isinstance(job, RefineJob) and job.datasets == (dataset,) and job.tasks == ("organ",) for job in packs)
    assert [job.install for job in packs if isinstance(job, RefineJob)] == [True, False]
    assert [job.rank for job in packs if isinstance(job, RefineJob)] == [2, 32]
    phases = {name: run.standing().phase for name, run in found.items()}
    assert phases == {name: "finished" if name.startswith("organ") else "stopped" for name in found}
    assert found["stopped-tune"].standing().resumable and not found["from-viewer"].standing().resumable
    found["from-viewer"].remove()
    assert "from-viewer" not in [run.job.name for run in runs()]


@pytest.mark.parametrize("words", [["finetune", "/d", "--sh", "x"], ["finetune", "/d", "--seed", "x"], [], "no", [1]])
def test_a_request_that_no_version_wrote_is_none(older_home: Path, words: object) -> None:
    path = older_home / "runs" / "from-viewer" / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "arguments": words}))
    with pytest.raises(BadInputError, match="is not a training job"):
        read_job(path)
    with pytest.raises(BadInputError, match="not a run's request"):
        Run.open("from-viewer")


def test_the_core_starts_nothing_above_it() -> None:
    """By import it cannot (lint-imports); by a module's name in a string it must not, either."""
    for path in Path(meduniseg_core.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "training_cli" not in text and "napari_meduniseg" not in text, path
