"""``segment --format ome-zarr``: a folder is a result like any other: replaced, kept when edited, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_inputs import write_volume

from meduniseg_core.images import read_labels

zarr = pytest.importorskip("zarr")


def test_a_folder_is_a_result_like_a_file(meduniseg: Any, tiny_model: Path, tmp_path: Path) -> None:
    write_volume(tmp_path / "mr.nii.gz")
    out, made = tmp_path / "out", tmp_path / "out" / "mr.ome.zarr"
    common = ("segment", tmp_path / "mr.nii.gz", "--model", tiny_model, "--task", "vessel", "-o")
    run = (*common, out, "--format", "ome-zarr", "--manifest", tmp_path / "run.jsonl")
    assert meduniseg(*common, tmp_path / "plain").returncode == 0
    first = meduniseg(*run)
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in out.iterdir()) == ["mr.json", "mr.ome.zarr"]
    group = zarr.open_group(str(made), mode="r")
    assert np.array_equal(group["0"][:], read_labels(tmp_path / "plain" / "mr.nii.gz").array[0])
    named = {one["label-value"]: one["name"] for one in group.attrs["ome"]["image-label"]["properties"]}
    assert named == {0: "background", 1: "artery", 2: "vein"}
    assert len(json.loads((out / "mr.json").read_text())["files"]["mr.ome.zarr"]) == 64
    assert meduniseg("runs", "verify", tmp_path / "run.jsonl").returncode == 0

    again = (*common, out, "--format", "ome-zarr")
    assert meduniseg(*again).returncode == 0  # its own former result is replaced
    assert sorted(path.name for path in out.iterdir()) == ["mr.json", "mr.ome.zarr"]
    (made / "note.txt").write_text("seen")  # a change of the folder is a change of the result
    altered = meduniseg("runs", "verify", tmp_path / "run.jsonl")
    assert altered.returncode != 0 and "mr.ome.zarr" in altered.stdout + altered.stderr
    kept = meduniseg(*again)
    assert (made / "note.txt").exists() and "edited by hand and is kept" in kept.stderr
    (out / "mr.json").unlink()
    stranger = meduniseg(*again)
    assert stranger.returncode == 2 and "is not a result of this program" in stranger.stderr
    assert (made / "note.txt").exists()
