"""How large the objects of a data set are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.preprocessing import RawDataset, object_scale


def dataset(folder: Path, labels: list[np.ndarray]) -> RawDataset:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for index, own in enumerate(labels):
        PillowImage.fromarray((own * 50).astype(np.uint8)).save(folder / "imagesTr" / f"a_{index}_0000.png")
        PillowImage.fromarray(own.astype(np.uint8)).save(folder / "labelsTr" / f"a_{index}.png")
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "large": 1, "small": 2},
        "file_ending": ".png",
        "modality": "ultrasound",
        "task": "a",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return RawDataset.open(folder)


def disc(array: np.ndarray, y: int, x: int, radius: float, label: int) -> None:
    h, w = np.ogrid[: array.shape[0], : array.shape[1]]
    array[(h - y) ** 2 + (w - x) ** 2 <= radius**2] = label


def test_the_class_with_the_smallest_objects_counts_and_specks_do_not(tmp_path: Path) -> None:
    labels = np.zeros((100, 200), int)
    disc(labels, 40, 50, 30, 1)
    for x in (120, 140, 160):
        disc(labels, 50, x, 5, 2)
    labels[90, ::4] = 2  # fifty specks, and no more pixels than half a disc
    found = object_scale(dataset(tmp_path, [labels]))
    assert found is not None and found.longest_side == 200
    assert found.diameter == pytest.approx(2 * 5 / 200, rel=0.05)


def test_a_data_set_of_empty_labels_has_no_size(tmp_path: Path) -> None:
    assert object_scale(dataset(tmp_path, [np.zeros((40, 40), int)])) is None


def test_many_cases_are_sampled_from_first_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["meduniseg_core.preprocessing.object_scale"]  # the package's name of it is the function's
    read = []
    labels = np.zeros((40, 40), int)
    disc(labels, 20, 20, 8, 1)
    raw = dataset(tmp_path, [labels] * 50)
    original = module.read_labels
    monkeypatch.setattr(module, "read_labels", lambda path: (read.append(Path(path).name), original(path))[1])
    assert object_scale(raw) is not None
    assert len(read) <= 20 and {"a_0.png"} <= set(read) and len(set(read)) == len(read)
