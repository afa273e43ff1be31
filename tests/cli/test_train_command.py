"""``meduniseg train``, and the whole way: train, segment, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_inputs import write_dataset

SETTINGS = """
name = "blobs"
datasets = ["Dataset001_Blob"]
output = "run"
cache = "cache"
epochs = {epochs}
iterations_per_dataset = 2
validation_every = 1
device = "cpu"
precision = "fp32"
plan_3d = {{ patch = [16, 32, 32], batch = 2 }}

[network]
features = [4, 4, 4]
strides = [[1, 2, 2], [2, 2, 2]]
task_prompt_channels = 4
task_prompt_size = [2, 2, 2]
"""


def config_file(folder: Path, epochs: int) -> Path:
    write_dataset(folder / "Dataset001_Blob", ("a", "b", "c"))
    path = folder / "config.toml"
    path.write_text(SETTINGS.format(epochs=epochs))
    return path


def test_train_segment_evaluate(meduniseg, tmp_path) -> None:
    done = meduniseg("train", config_file(tmp_path, 1), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model"] == str(tmp_path / "run" / "blobs.safetensors")
    images = tmp_path / "Dataset001_Blob" / "imagesTr"
    done = meduniseg("segment", images, "-o", tmp_path / "predicted", "--model", result["model"])
    assert done.returncode == 0, done.stderr
    done = meduniseg("evaluate", tmp_path / "predicted", images.parent / "labelsTr", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [case["case"] for case in report["cases"]] == ["a", "b", "c"]
    assert report["classes"][0]["name"] == "blob"


@pytest.mark.parametrize(("content", "word"), [("name = ", "TOML"), ("name = 'x'", "datasets")])
def test_a_wrong_config_is_bad_input_and_says_where(meduniseg, tmp_path, content, word) -> None:
    config = tmp_path / "config.toml"
    config.write_text(content)
    done = meduniseg("train", config)
    assert done.returncode == 3
    assert str(config) in done.stderr and word in done.stderr


def test_resuming_what_never_ran_is_an_error(meduniseg, tmp_path) -> None:
    done = meduniseg("train", config_file(tmp_path, 1), "--resume")
    assert done.returncode == 3
    assert str(tmp_path / "run") in done.stderr


def test_an_interrupted_training_says_how_to_go_on(tmp_path, interrupt) -> None:
    config = config_file(tmp_path, 10_000)
    ended = interrupt("train", config, at=lambda event: event["stage"] == "train" and event["done"] > 4)
    assert ended.returncode == 130
    assert "--resume goes on from" in ended.error["message"]
    assert not (tmp_path / "run" / "blobs.safetensors").exists()
    assert not list((tmp_path / "run").glob(".tmp-*"))
