"""Closing the window while work goes on and labels are not saved: asked, stopped, kept, and exit code 0."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_inputs import save_tiny_model

from meduniseg_core.adaptation.run import Run
from meduniseg_core.images import read_labels
from napari_meduniseg import _autosave


def closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, how: str = "button", answer: str = "Close"
) -> dict[str, str]:
    """What the driver said, by its first word; it has ended properly."""
    if how == "button" and ctypes.util.find_library("X11") is None:
        pytest.skip("the window's close button is pressed through X11, which is not here")
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "close_driver.py"), str(model), what, how, answer],
        capture_output=True, text=True, timeout=600, env={**os.environ, "NAPARI_CONFIG": str(tmp_path / "napari.yaml")},
    )  # fmt: skip
    said = {line.split(" ", 1)[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}
    assert done.returncode == 0 and "ENDED" in said, done.stdout + done.stderr
    return said


def children_left(tmp_path: Path) -> list[psutil.Process]:
    """Processes of ours that work in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "training_cli" in words and any(str(tmp_path) in word for word in words):
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("how", "answer"), [("button", "Close"), ("menu", "Close"), ("button", "Cancel"), ("program", "")]
)
def test_a_window_that_is_closed_during_a_run_ends_the_process_cleanly(
    gui_screen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, answer: str
) -> None:
    said = closed(tmp_path, monkeypatch, "run", how, answer)
    if answer:
        assert "A segmentation is running; it will be stopped." in said["QUESTION"]
        assert "Not saved: mine." in said["QUESTION"]
    if answer == "Cancel":
        assert said["STAYS"] == "True"
    assert [kept.name for kept in _autosave.binned()] == ["mine"] and _autosave.leftovers() == []


def test_a_window_that_is_closed_while_a_volume_is_being_prepared_waits_for_that_and_no_longer(
    gui_screen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = closed(tmp_path, monkeypatch, "preparing")
    assert "A segmentation is running; it will be stopped." in said["QUESTION"] and "PREPARED" in said
    assert [kept.name for kept in _autosave.binned()] == ["mine"]


@pytest.mark.parametrize("answer", ["Close", "Cancel"])
def test_a_window_that_is_closed_during_a_batch_keeps_what_is_done_and_leaves_nothing_half_done(
    gui_screen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    said = closed(tmp_path, monkeypatch, "batch", answer=answer)
    assert "A batch is running; it will be stopped. Cases that are finished stay." in said["QUESTION"]
    assert "Not saved: mine." in said["QUESTION"] and said.get("STAYS", "True") == "True"
    out = tmp_path / "out"
    assert sorted(path.name for path in out.rglob("*")) == ["a.json", "a.nii.gz"]  # hidden files, too
    assert read_labels(out / "a.nii.gz").array.shape == (1, 20, 36, 40)
    assert children_left(tmp_path) == []


def test_a_training_goes_on_when_the_window_is_closed_and_can_be_stopped_later(
    gui_screen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = closed(tmp_path, monkeypatch, "learn")
    assert "The training blobs goes on when napari is closed." in said["QUESTION"]
    assert "Not saved: mine." in said["QUESTION"] and said["SAID"] == ""
    run = Run.open("blobs")
    try:
        assert run.standing().phase == "running" and run.process() is not None
        end = time.monotonic() + 120
        while run.standing().progress is None and time.monotonic() < end:  # it works, with nobody listening
            assert run.standing().phase == "running", run.standing()
            time.sleep(0.2)
        assert run.standing().progress is not None
    finally:
        run.stop()
    assert run.standing().phase == "stopped" and children_left(tmp_path) == []
    assert [path.name for path in run.folder.rglob("*") if ".tmp" in path.name] == []
