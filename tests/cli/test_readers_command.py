"""``meduniseg corrections agreement`` and ``adjudicate``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCommand
from small_inputs import write_volume

from meduniseg_core.images import read_image, read_labels, write_labels

SHAPE = (6, 20, 20)


@pytest.fixture
def ledger(meduniseg: RunCommand, tmp_path: Path) -> Path:
    image = write_volume(tmp_path / "scan.nii.gz", SHAPE)
    for who, first in (("Ada", 4), ("Ben", 6)):
        array = np.zeros((1, *SHAPE), np.uint8)
        array[0, 1:5, first : first + 8, 4:12] = 1
        write_labels(read_image(image).with_array(array), tmp_path / f"{who}.nii.gz")
        new = ("--task", "organ", "--modality", "mri", "--classes", "liver")
        added = meduniseg("corrections", "add", tmp_path / "ledger", image, "--labels", tmp_path / f"{who}.nii.gz",
                          "--who", who, *new)  # fmt: skip
        assert added.returncode == 0, added.stderr
    return tmp_path / "ledger"


def test_readers_are_compared_and_the_decision_is_accepted(meduniseg: RunCommand, ledger: Path, tmp_path: Path) -> None:
    shown = meduniseg("corrections", "agreement", ledger)
    assert shown.returncode == 0 and "Ada, Ben" in shown.stdout and "0.7500" in shown.stdout
    (case,) = json.loads(meduniseg("corrections", "agreement", ledger, "--json").stdout)["cases"]
    (liver,) = case["classes"]
    assert liver["dice"] == 0.75 and [one["index"] for one in liver["slices"]] == [1, 2, 3, 4]
    assert case["disputed_voxels"] == 2 * 4 * 2 * 8 and [one["voxels"] for one in case["disputes"]] == [64, 64]
    decide = ("corrections", "adjudicate", ledger, case["case"])
    done = meduniseg(*decide, "--method", "majority", "--who", "Eve", "--json")
    entry = json.loads(done.stdout)["entry"]
    assert (entry["who"], entry["consensus"], entry["adjudicates"]) == ("Eve", "majority", [1, 2])
    both = read_labels(ledger / "labelsTr" / f"{case['case']}.nii.gz").array
    assert int(both.sum()) == 4 * 6 * 8  # two of two: where both say liver
    by_hand = meduniseg(*decide, "--labels", tmp_path / "Ada.nii.gz")
    assert by_hand.returncode == 0 and "between Ada, Ben (reading)" in by_hand.stdout


def test_what_is_missing_is_said(meduniseg: RunCommand, ledger: Path) -> None:
    assert "either --method" in meduniseg("corrections", "adjudicate", ledger, "x").stderr
    unknown = meduniseg("corrections", "adjudicate", ledger, "x", "--method", "staple")
    assert unknown.returncode == 2 and "has no case 'x'" in unknown.stderr
    assert meduniseg("corrections", "agreement", ledger.with_name("none")).returncode == 3
