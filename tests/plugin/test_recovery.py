"""Unfinished edits come back after a crash, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_inputs import write_volume

from meduniseg_core.images import read_image, read_labels
from napari_meduniseg import _autosave


@pytest.fixture
def own_home(gui: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def edit_panel(gui: Any) -> Any:
    return gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")[1]


def crash(path: Path) -> Path:
    """As if the process that wrote the file were gone."""
    dead = path.with_name(path.name.replace(path.name.split("-")[0], "999999999"))
    return path.rename(dead)


def test_edits_are_kept_offered_after_a_crash_and_saved_on_the_image_s_grid(
    gui: Any, own_home: Path, tmp_path: Path, qtbot: Any
) -> None:
    source = write_volume(tmp_path / "mr.nii.gz")
    (image,) = gui.open(str(source), plugin="napari-meduniseg")
    labels = gui.add_labels(
        np.zeros(image.data.shape, np.uint8),
        name="mine",
        scale=image.scale,
        translate=image.translate,
        units=image.units,
        metadata=image.metadata,
        features={"index": [0, 1], "name": ["background", "liver"]},
    )
    widget = edit_panel(gui)
    widget.palette_table.set_locked(1, True)
    widget.palette_table.set_locked(1, False)
    widget.recovery.save_now()
    assert not list(_autosave.folder().glob("*"))  # nothing was changed yet; locks alone are nothing to miss
    labels.data_setitem((np.array([3]), np.array([4]), np.array([5])), np.array([1], np.uint8))
    widget.recovery.save_now()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    widget.palette_table.set_locked(1, True)  # after the edit was kept
    widget.recovery.save_now()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    (kept,) = _autosave.folder().glob("*")
    assert _autosave.leftovers() == []  # its process still runs
    crash(kept)
    gui.layers.remove(labels)

    widget.recovery.refresh()
    assert widget.recovery.box.count() == 1 and "mine" in widget.recovery.box.currentText()
    widget.recovery.restore_button.click()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    back = gui.layers[-1]
    assert back.name == "mine (restored)" and list(back.features["name"])[1:] == ["liver"]
    np.testing.assert_allclose(back.data_to_world((3, 4, 5)), image.data_to_world((3, 4, 5)))
    back.paint((3, 4, 5), 0)
    assert back.data[3, 4, 5] == 1 and "locked class" in widget.said.text()  # its lock came back, too
    gui.layers.selection = {back}
    assert gui.layers.save(str(tmp_path / "out.nii.gz"), selected=True, plugin="napari-meduniseg")
    written = read_labels(tmp_path / "out.nii.gz")
    assert written.geometry.is_close(read_image(source).geometry) and int(written.array.sum()) == 1
    assert _autosave.leftovers() == []


def test_a_proper_end_leaves_nothing_and_damaged_files_are_passed_over(gui: Any, own_home: Path) -> None:
    layer = gui.add_labels(np.ones((4, 5), np.uint8), name="flat")
    path = _autosave.write(_autosave.snapshot(layer))
    _autosave.forget_all()
    assert not path.exists()
    damaged = _autosave.folder() / "999999999-1.labels.npz"
    damaged.write_bytes(b"nothing")
    assert _autosave.leftovers() == []


def test_unwanted_edits_are_discarded(gui: Any, own_home: Path) -> None:
    dead = crash(_autosave.write(_autosave.snapshot(gui.add_labels(np.ones((4, 5), np.uint8), name="flat"))))
    widget = edit_panel(gui)
    widget.recovery.refresh()
    widget.recovery.discard_button.click()
    assert not dead.exists() and widget.recovery.box.count() == 0


def test_edits_that_an_older_version_kept_without_their_locks_come_back_unlocked(gui: Any, own_home: Path) -> None:
    taken = _autosave.snapshot(gui.add_labels(np.ones((4, 5), np.uint8), name="flat"), locked={1})
    about = json.loads(taken.about)
    assert about.pop("locked") == [1]
    crash(_autosave.write(replace(taken, about=json.dumps(about))))
    (leftover,) = _autosave.leftovers()
    assert _autosave.restore(leftover).locked == frozenset()
