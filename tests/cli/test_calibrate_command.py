"""``meduniseg models calibrate``, and what ``segment`` says afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_inputs import write_photograph

from meduniseg_core.images import read_image, write_labels
from meduniseg_core.weights import load_model, read_info


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Ten photographs with a disc and a cup, but for two without a cup."""
    folder = tmp_path / "eyes"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for number in range(10):
        image = read_image(write_photograph(folder / "imagesTr" / f"eye_{number}_0000.png", seed=number))
        labels = np.zeros((1, *image.geometry.shape), dtype=np.uint8)
        labels[0, 0, 10:30, 12 : 30 + number] = 1
        labels[0, 0, 15:20, 20 : 24 + number] = 2 if number > 1 else 1
        write_labels(image.with_array(labels), folder / "labelsTr" / f"eye_{number}.png", like=image)
    description = {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "disc": 1, "cup": 2},
        "numTraining": 10,
        "file_ending": ".png",
        "task": "disc_cup",
        "modality": "fundus",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_a_calibrated_model_says_how_far_to_trust_its_results(meduniseg, tiny_model, eyes, tmp_path) -> None:
    out = tmp_path / "calibrated.safetensors"
    cache = tmp_path / "cache"
    done = meduniseg("models", "calibrate", tiny_model, eyes, "-o", out, "--cache", cache, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["path"], report["images"], report["tasks"]) == (str(out), 10, {"disc_cup": 10})
    before, after = load_model(tiny_model), load_model(out)
    assert before.info.calibration is None
    assert all(
        np.array_equal(value, after.network.state_dict()[name]) for name, value in before.network.state_dict().items()
    ), "the weights stay"
    assert "calibrated for: disc_cup" in meduniseg("models", "info", out).stdout

    again = tmp_path / "again.safetensors"
    assert len(list(cache.glob("*.json"))) == 20, "ten images and their copies"
    assert meduniseg("models", "calibrate", tiny_model, eyes, "-o", again, "--cache", cache).returncode == 0
    assert read_info(again).calibration == read_info(out).calibration, "what was found is not computed anew"

    photograph = write_photograph(tmp_path / "new.png", seed=99)
    done = meduniseg(
        "segment", photograph, "-o", tmp_path / "out", "-t", "disc_cup", "-m", out, "--review-below", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    quality = result["quality"]
    assert (quality["calibrated"], quality["threshold"], quality["light"]) == (True, 1.0, "red")
    assert set(quality["classes"]) == {"disc", "cup"}
    written = json.loads((tmp_path / "out" / "new.json").read_text())
    assert written["quality"] == quality
    shown = meduniseg("segment", photograph, "-o", tmp_path / "out", "-t", "disc_cup", "-m", out, "--review-below", "1")
    assert f"new (disc_cup): {quality['sentence']}" in shown.stderr


def test_what_cannot_be_calibrated_is_said_before_anything_is_computed(meduniseg, tiny_model, eyes, tmp_path) -> None:
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    for arguments, said in (
        (("starter", eyes), "comes with the program"),
        ((tiny_model, eyes, "-o", there), "exists already"),
        ((tiny_model, eyes, eyes, "-o", tmp_path / "a.safetensors"), "Two data sets have the task 'disc_cup'"),
        ((tiny_model, eyes, "-o", tmp_path / "a.safetensors", "--split", tmp_path / "no.json"), "There is no file"),
    ):
        done = meduniseg("models", "calibrate", *arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert there.read_bytes() == b"mine"


def test_too_few_images_are_refused(meduniseg, tiny_model, eyes, tmp_path) -> None:
    split = tmp_path / "split.json"
    names = [f"eye_{number}" for number in range(10)]
    split.write_text(json.dumps({"disc_cup": {"train": names[3:], "validation": names[:3]}}))
    out = tmp_path / "a.safetensors"
    done = meduniseg("models", "calibrate", tiny_model, eyes, "-o", out, "--split", split, "--copies", "0")
    assert done.returncode == 2
    assert "at least 8 images" in done.stderr
    assert not out.exists()
