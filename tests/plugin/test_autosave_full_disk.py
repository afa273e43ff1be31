"""Unfinished edits on a disk that is full: it is said of the folder, and what was kept before stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels

from napari_meduniseg import _autosave
from napari_meduniseg.widgets.keeping import _write_all


@pytest.fixture
def small_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "home"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    monkeypatch.setenv("MEDUNISEG_HOME", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("leave", [0, 4096, 32768])
def test_it_is_said_and_the_former_edits_stay(small_home: Path, leave: int) -> None:
    layer = Labels(np.zeros((40, 64, 64), np.uint8), name="mine")
    assert _write_all([_autosave.snapshot(layer)]) is None
    before = _autosave._path(layer).read_bytes()
    filling = small_home / "filling"
    filling.write_bytes(b"1" * max(0, shutil.disk_usage(small_home).free - leave))
    layer.data = np.random.default_rng(0).integers(0, 200, size=layer.data.shape).astype(np.uint8)
    said = _write_all([_autosave.snapshot(layer)])
    assert said is not None and str(_autosave.folder()) in said and "no space left" in said.lower()
    assert _autosave._path(layer).read_bytes() == before and len(list(_autosave.folder().iterdir())) == 1
    filling.unlink()
    assert _write_all([_autosave.snapshot(layer)]) is None
    assert _autosave._path(layer).read_bytes() != before
