"""The experiment that measures the worklist's order runs, resumes, and says what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from worklist_samples import tiny_predictor

from meduniseg_core.images import Geometry, Image, write_image, write_labels
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import worklist_order


def written(folder: Path, count: int) -> None:
    """A data set of 2D MR images with one block each; two of every patient."""
    geometry = Geometry((1, 24, 24), (1.0, 1.0, 1.0))
    for number in range(count):
        labels = np.zeros((1, 1, 24, 24), np.uint8)
        labels[0, 0, 4 : 10 + number, 6:14] = 1
        noise = np.random.default_rng(number).normal(size=labels.shape).astype(np.float32)
        write_image(Image(noise + 2 * labels, geometry), folder / "imagesTr" / f"c{number}_0000.nii.gz")
        write_labels(Image(labels, geometry), folder / "labelsTr" / f"c{number}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "block": 1},
        "file_ending": ".nii.gz",
        "patient_of": {f"c{number}": f"p{number // 2}" for number in range(count)},
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def test_it_runs_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / "Blocks" / part).mkdir(parents=True)
    written(tmp_path / "data" / "Blocks", 8)
    tiny_predictor(tmp_path)
    base = tmp_path / "tiny.safetensors"
    sizes = ["--rounds", "1", "--each", "1", "--iterations", "2", "--side", "16", "--pool", "5", "--held-out", "2"]
    command = ["worklist_order.py", str(tmp_path / "data"), "--tasks", "Blocks", "--seeds", "0", "--base", str(base)]
    monkeypatch.setattr(sys, "argv", [*command, *sizes, "--work", str(tmp_path / "work")])
    worklist_order.main()
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in first.splitlines() if line.startswith("{")]
    assert [(row["order"], row["accepted"]) for row in rows] == [
        ("worth", 2),
        ("worth", 3),
        ("random", 2),
        ("random", 3),
    ]
    assert rows[0]["dice"] == rows[2]["dice"] and rows[0]["chosen"] == rows[2]["chosen"]
    assert not set(rows[1]["chosen"]) & set(rows[0]["chosen"])
    worklist_order.main()
    again = capsys.readouterr().out
    assert not again.startswith("{") and again.strip() in first


def test_pool_and_held_out_images_share_no_patient(tmp_path: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    written(tmp_path, 8)
    settings = worklist_order.Settings(pool=10, held_out=3)
    dataset = worklist_order.RawDataset.open(tmp_path)
    pool, held = worklist_order.divided(dataset, 0, settings)
    assert len(held) == 3 and not {case.patient for case in pool} & {case.patient for case in held}
    assert worklist_order.divided(dataset, 0, settings) == (pool, held)


def test_the_table_says_the_difference() -> None:
    rows = [
        worklist_order.Measured("blocks", 0, order, count, value, ())
        for order, values in (("worth", (0.5, 0.7)), ("random", (0.5, 0.6)))
        for count, value in zip((2, 4), values, strict=True)
    ]
    text = worklist_order.table(rows, worklist_order.Settings(), "first")
    assert "| blocks | worth | 50.0 ± 0.0 | 70.0 ± 0.0 |" in text and "seed 0: +10.0" in text and "1 of 1" in text
