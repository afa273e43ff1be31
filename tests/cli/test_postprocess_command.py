"""``meduniseg models postprocess``, and ``segment --ensemble``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from small_inputs import write_photograph

from meduniseg_core.images import read_image, write_labels
from meduniseg_core.weights import load_model, read_info, save_model


def eyes(folder: Path) -> Path:
    """Four photographs with a disc and a cup."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for number in range(4):
        image = read_image(write_photograph(folder / "imagesTr" / f"eye_{number}_0000.png", seed=number))
        labels = np.zeros((1, *image.geometry.shape), dtype=np.uint8)
        labels[0, 0, 10:30, 12 : 30 + number] = 1
        labels[0, 0, 15:20, 20 : 24 + number] = 2
        write_labels(image.with_array(labels), folder / "labelsTr" / f"eye_{number}.png", like=image)
    description = {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "disc": 1, "cup": 2},
        "file_ending": ".png",
        "task": "disc_cup",
        "modality": "fundus",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_the_decision_is_stored_and_named_by_results(meduniseg, tiny_model, tmp_path) -> None:
    out = tmp_path / "post.safetensors"
    done = meduniseg(
        "models", "postprocess", tiny_model, eyes(tmp_path / "eyes"), "-o", out, "--device", "cpu", "--json"
    )
    assert done.returncode == 0, done.stderr
    classes = json.loads(done.stdout)["classes"]
    assert [(one["name"], one["cases"]) for one in classes] == [("disc", 4), ("cup", 4)]
    kept = {one["name"] for one in classes if one["largest_only"]}
    assert set(read_info(out).plan_of("disc_cup").largest_only) == kept
    photograph = write_photograph(tmp_path / "new.png", seed=99)
    done = meduniseg("segment", photograph, "-o", tmp_path / "out", "-t", "disc_cup", "-m", out, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "new.json").read_text())
    assert set(record["settings"].get("postprocessing", {})) == kept


def test_an_ensemble_is_named_in_the_result(meduniseg, tiny_model, tmp_path) -> None:
    other = tmp_path / "other.safetensors"
    model = load_model(tiny_model)  # the same weights
    info = model.info.model_copy(update={"name": "other"})
    save_model(other, info, model.network.state_dict(), "fp32")
    photograph = write_photograph(tmp_path / "new.png", seed=99)
    common = ("segment", photograph, "-t", "disc_cup", "-m", tiny_model, "--device", "cpu")
    assert meduniseg(*common, "-o", tmp_path / "one").returncode == 0
    done = meduniseg(*common, "-o", tmp_path / "two", "--ensemble", other, "--json")
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)["models"]] == [model.info.name, "other"]
    record = json.loads((tmp_path / "two" / "new.json").read_text())
    assert len(record["settings"]["ensemble"]) == 2
    same = [read_image(tmp_path / name / "new.png").array for name in ("one", "two")]
    # the mean of a model with itself; probabilities are of half precision, so this random model's near-ties may differ
    assert (same[0] != same[1]).mean() < 0.02
    done = meduniseg(*common, "-o", tmp_path / "itself", "--ensemble", tiny_model)
    assert done.returncode == 2 and "would count twice" in done.stderr
    done = meduniseg(*common, "-o", tmp_path / "three", "--ensemble", "starter")
    assert done.returncode == 2 and "disc_cup" in done.stderr
