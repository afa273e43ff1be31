"""Closing the window while the network runs and labels are not saved: asked, stopped, kept, and exit code 0."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_inputs import save_tiny_model

from napari_meduniseg import _autosave


@pytest.mark.parametrize(
    ("how", "answer"), [("button", "Close"), ("menu", "Close"), ("button", "Cancel"), ("program", "")]
)
def test_a_window_that_is_closed_during_a_run_ends_the_process_cleanly(
    gui_screen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, answer: str
) -> None:
    if how == "button" and ctypes.util.find_library("X11") is None:
        pytest.skip("the window's close button is pressed through X11, which is not here")
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "close_driver.py"), str(model), how, answer],
        capture_output=True, text=True, timeout=240, env={**os.environ, "NAPARI_CONFIG": str(tmp_path / "napari.yaml")},
    )  # fmt: skip
    said = {line.split(" ", 1)[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}
    assert done.returncode == 0 and "ENDED" in said, done.stdout + done.stderr
    if answer:
        assert "A segmentation is running; it will be stopped." in said["QUESTION"]
        assert "Not saved: mine." in said["QUESTION"]
    if answer == "Cancel":
        assert said["STAYS"] == "True"
    assert [kept.name for kept in _autosave.binned()] == ["mine"] and _autosave.leftovers() == []
