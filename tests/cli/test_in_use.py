"""'segment' uses what is in use for the task, a model or a pack, and says so; at most one thing is in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meduniseg_core.weights import Registry


@pytest.fixture
def home(older_home: Path) -> Path:
    """The data folder that a version before left."""
    return older_home


@pytest.fixture
def segmented(meduniseg, older_home: Path, tmp_path: Path):
    """Segment an image of the data folder that a version before left: model, pack (or None) and what was said."""

    def run(*options: object) -> tuple[str, str | None, str]:
        image = older_home / "Dataset001_Organ" / "imagesTr" / "a_0000.nii.gz"
        words = ("segment", image, "-o", tmp_path / "out", "--task", "organ", "--device", "cpu", "--precision", "fp32")
        done = meduniseg(*words, *options, "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        pack = answer["packs"].get("organ")
        return answer["model"], None if pack is None else pack["name"], done.stderr

    return run


def test_the_newest_model_or_pack_is_used_and_said(meduniseg, segmented, older_home: Path) -> None:
    model, pack, said = segmented()
    assert (model, pack) == ("organ-1", None) and "organ-1 is used for organ: it was adopted" in said
    listed = json.loads(meduniseg("runs", "list", "--json").stdout)
    assert listed["in_use"] == {"organ": "organ-1"}
    done = meduniseg("runs", "rollback", "organ", "--json")
    assert json.loads(done.stdout) == {"task": "organ", "taken_back": "organ-1", "in_use": "organ-pack"}
    model, pack, said = segmented()
    assert (model, pack) == ("tiny", "organ-pack")
    assert "tiny is used for organ: a pack of it is in use" in said and "organ-pack is in use for organ" in said
    assert segmented("--no-packs")[:2] == ("tiny", None)
    # adopting a model takes the pack out of use, also where its base is named
    assert meduniseg("runs", "adopt", "organ-1", "--anyway").returncode == 0
    model, pack, said = segmented("--model", "tiny")
    assert (model, pack) == ("tiny", None) and "organ-1 was adopted for organ; '--model organ-1' would use it" in said
    assert "in_use_for" in (done := meduniseg("models", "packs", "list", "--json")).stdout
    assert json.loads(done.stdout)["packs"][0]["in_use_for"] == []
    # and activating the pack again takes the model out
    assert meduniseg("models", "packs", "activate", "organ-pack", "--anyway").returncode == 0
    assert segmented()[:2] == segmented("--model", "tiny")[:2] == ("tiny", "organ-pack")
    model, pack, said = segmented("--model", "organ-1")
    assert (model, pack) == ("organ-1", None) and "A pack of tiny is in use for organ; '--model tiny'" in said


def test_runs_of_a_version_before_are_rolled_back_and_adopted_again(meduniseg, segmented, older_home: Path) -> None:
    assert segmented()[0] == "organ-1"
    done = meduniseg("runs", "discard", "organ-1")
    assert done.returncode == 2 and "is in use for organ" in done.stderr
    assert meduniseg("runs", "discard", "organ-pack").returncode == 0, "the model went before it"
    assert meduniseg("models", "remove", "organ-1").returncode == 0
    model, pack, said = segmented()
    assert (model, pack) == ("tiny", "organ-pack"), "the pack is installed, and in use again"
    assert "organ-1, which was adopted for organ, was removed or replaced since; organ-pack is used" in said


def test_a_pack_whose_base_is_gone_is_said(meduniseg, older_home: Path, tmp_path: Path) -> None:
    Registry().remove("organ-1")
    Registry().export("tiny", tmp_path / "tiny.safetensors")
    Registry().remove("tiny")
    image = older_home / "Dataset001_Organ" / "imagesTr" / "a_0000.nii.gz"
    words = ("segment", image, "-o", tmp_path / "out", "--task", "organ", "--device", "cpu", "--precision", "fp32")
    done = meduniseg(*words)
    assert done.returncode == 2 and "The pack organ-pack is in use for organ, but its base" in done.stderr
    done = meduniseg(*words, "--model", tmp_path / "tiny.safetensors", "--json")
    assert json.loads(done.stdout)["packs"]["organ"]["name"] == "organ-pack", done.stderr
