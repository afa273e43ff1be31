"""Unfinished edits come back after a crash, and only then."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from qtpy.QtWidgets import QMessageBox
from small_inputs import write_volume

from meduniseg_core.images import read_image, read_labels
from napari_meduniseg import _autosave
from napari_meduniseg.widgets.recovery import Recovery


@pytest.fixture
def own_home(gui: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def edit_panel(gui: Any) -> Any:
    return gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")[1]


def crash(path: Path) -> Path:
    """As if the process that wrote the file were gone."""
    return path.rename(path.with_name("999999999-" + path.name.split("-", 1)[1]))


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


def test_a_proper_end_leaves_nothing_to_offer_and_damaged_files_are_passed_over(gui: Any, own_home: Path) -> None:
    layer = gui.add_labels(np.ones((4, 5), np.uint8), name="flat")
    path = _autosave.write(_autosave.snapshot(layer))
    _autosave.put_all_aside()  # it used to delete: what was not saved now stays in the bin for a week
    assert not path.exists() and [kept.name for kept in _autosave.binned()] == ["flat"]
    damaged = _autosave.folder() / "999999999-1.labels.npz"
    damaged.write_bytes(b"nothing")
    assert _autosave.leftovers() == []


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("{pid}-{beginning}-1", False),  # ours
        ("{pid}-b0123456789abcdef-1", True),
        ("{pid}-{created}-1", False),
        ("{pid}-{other}-1", True),  # the id is used again, by a process that began later
        ("{pid}-7", True),  # written before ownership knew of that, by another process: the file is older than this one
        ("{parent}-{other}-1", True),  # the id of some process that runs, and not its beginning
        ("999999999-{created}-1", True),
        ("notes-1", False),  # no name of ours
    ],
)
def test_a_process_owns_its_files_by_its_id_and_its_beginning(
    gui: Any, own_home: Path, name: str, offered: bool
) -> None:
    path = _autosave.write(_autosave.snapshot(gui.add_labels(np.ones((4, 5), np.uint8), name="flat")))
    pid, beginning, _ = path.name.split("-")
    created = round(psutil.Process().create_time() * 100)  # as a version before, and other systems, say it
    known = {"pid": pid, "created": created, "other": created - 98_765_432, "parent": os.getppid()}
    known["beginning"] = beginning
    moved = path.rename(path.with_name(f"{name.format(**known)}.labels.npz"))
    os.utime(moved, (1e9, 1e9))  # long before any process that runs
    assert bool(_autosave.leftovers()) is offered


def test_unwanted_edits_are_asked_about_and_come_back_from_the_bin_for_a_week(
    gui: Any, own_home: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        crash(_autosave.write(_autosave.snapshot(gui.add_labels(np.ones((4, 5), np.uint8), name=name))))
    segment = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")[1]
    offer = segment.findChild(Recovery)
    assert offer.isVisibleTo(segment) and offer.box.count() == 2  # in any panel, as it opens
    widget = edit_panel(gui)
    asked: list[str] = []

    def answer(button: Any) -> Any:
        return lambda _parent, _title, text, **_more: asked.append(text) or button

    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.No))
    widget.recovery.discard_button.click()
    assert widget.recovery.box.count() == 2 and "Discard the edits of second" in asked[0]
    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.Yes))
    widget.recovery.discard_button.click()
    assert widget.recovery.box.count() == 1 and offer.box.count() == 1
    assert widget.recovery.bin_button.isVisibleTo(widget) and not offer.bin_button.isVisibleTo(segment)
    (aside,) = _autosave.binned()
    widget.recovery._fill_menu()
    (action,) = widget.recovery._menu.actions()
    assert action.text().startswith("Bring back second")
    action.trigger()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    assert gui.layers[-1].name == "second (restored)" and not aside.path.exists()
    assert gui.layers[-1] in widget.recovery.keeper.unsaved()
    _autosave.discard_leftover(_autosave.leftovers()[0])
    (old,) = _autosave.binned()
    week = time.time() - 7.1 * 86400
    os.utime(old.path, (week, week))
    assert _autosave.binned() == [] and not old.path.exists()


def test_a_layer_that_was_edited_and_removed_goes_to_the_bin_and_one_that_was_saved_nowhere(
    gui: Any, own_home: Path, qtbot: Any, tmp_path: Path
) -> None:
    widget = edit_panel(gui)
    layers = [gui.add_labels(np.zeros((4, 5), np.uint8), name=name) for name in ("removed", "saved")]
    for layer in layers:
        layer.data_setitem((np.array([1]), np.array([2])), np.array([1], np.uint8))
    assert widget.recovery.keeper.unsaved() == layers
    widget.recovery.save_now()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    assert len(list(_autosave.folder().glob("*.npz"))) == 2
    widget.save_button._layer = lambda: layers[1]
    widget.save_button.save(tmp_path / "flat.png")
    qtbot.waitUntil(lambda: not widget.save_button.busy)
    layers[0].data_setitem((np.array([1]), np.array([3])), np.array([1], np.uint8))
    gui.layers.remove(layers[0])
    assert widget.recovery.keeper.unsaved() == []
    widget.recovery.save_now()
    qtbot.waitUntil(lambda: not widget.recovery.busy)
    assert list(_autosave.folder().glob("*.npz")) == [] and [kept.name for kept in _autosave.binned()] == ["removed"]


def test_edits_that_an_older_version_kept_without_their_locks_come_back_unlocked(gui: Any, own_home: Path) -> None:
    taken = _autosave.snapshot(gui.add_labels(np.ones((4, 5), np.uint8), name="flat"), locked={1})
    about = json.loads(taken.about)
    assert about.pop("locked") == [1]
    crash(_autosave.write(replace(taken, about=json.dumps(about))))
    (leftover,) = _autosave.leftovers()
    assert _autosave.restore(leftover).locked == frozenset()


def test_labels_of_one_frame_find_their_image_again(gui: Any, own_home: Path, tmp_path: Path) -> None:
    source = tmp_path / "phases.nii.gz"
    nib.Nifti1Image(np.zeros((7, 6, 5, 9), np.int16), np.diag([2.0, 2, 3, 1])).to_filename(source)
    second = gui.open(str(source), plugin="napari-meduniseg")[1]
    layer = gui.add_labels(np.ones(second.data.shape, np.uint8), scale=second.scale, metadata=second.metadata)
    taken = _autosave.snapshot(layer)
    assert json.loads(taken.about)["chosen"] == {"frame": 2}
    crash(_autosave.write(taken))
    (leftover,) = _autosave.leftovers()
    belongs = _autosave.source_of(_autosave.restore(leftover).options["metadata"])
    assert belongs is not None and belongs[0].meta["frame"] == 2
