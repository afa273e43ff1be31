"""``meduniseg finetune``: from a model and a data set to a model of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_inputs import save_tiny_model, write_dataset


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny.safetensors")


def test_finetune_then_segment(meduniseg, base, tmp_path) -> None:
    dataset = tmp_path / "Dataset001_Blob"
    write_dataset(dataset, ("a", "b", "c"))
    run = tmp_path / "tuned"
    words = ("finetune", dataset, "--base", base, "-o", "mine", "--iterations", 50, "--folder", run)
    done = meduniseg(*words, "--device", "cpu", "--precision", "fp32", "--modality", "mri", "--json")
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    assert model == str(run / "run" / "mine.safetensors")
    done = meduniseg("models", "info", model, "--json")
    provenance = json.loads(done.stdout)["provenance"]
    assert provenance["kind"] == "fine-tuned" and provenance["base"] == "tiny" and len(provenance["base_sha256"]) == 64
    done = meduniseg("segment", dataset / "imagesTr", "-o", tmp_path / "predicted", "--model", model)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "predicted" / "a.nii.gz").is_file()


def test_a_resume_without_a_run_and_a_data_set_that_is_none_are_bad_input(meduniseg, base, tmp_path) -> None:
    dataset = tmp_path / "Dataset001_Blob"
    write_dataset(dataset, ("a", "b", "c"))
    words = ("--base", base, "-o", "mine", "--folder", tmp_path / "tuned", "--modality", "mri", "--resume")
    done = meduniseg("finetune", dataset, *words, "--precision", "fp32")
    assert done.returncode == 3 and "no checkpoint to resume from" in done.stderr
    done = meduniseg("finetune", tmp_path / "nothing", *words)
    assert done.returncode == 3 and str(tmp_path / "nothing") in done.stderr


def test_quick_adapt_is_said_to_be_short_and_kept_with_the_run(meduniseg, base, tmp_path) -> None:
    dataset = tmp_path / "Dataset001_Blob"
    write_dataset(dataset, ("a", "b", "c"))
    words = ("finetune", dataset, "--base", base, "-o", "mine", "--quick", "--iterations", 50, "--modality", "mri")
    done = meduniseg(*words, "--device", "cpu", "--precision", "fp32", "--no-gate", "--json")
    assert done.returncode == 0, done.stderr
    run = Path(json.loads(done.stdout)["model"]).parents[1]
    job = json.loads((run / "job.json").read_text())
    assert job["quick"] is True and job["iterations"] == 50 and job["compare"] is False
