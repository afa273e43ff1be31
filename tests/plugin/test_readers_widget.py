"""The Readers panel in a real viewer: every reader's labels, the next dispute, the decision."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_inputs import write_volume

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import read_image, read_labels
from napari_meduniseg._reader_name import reader_name, remember_reader
from napari_meduniseg._readings import begin_decision
from napari_meduniseg.widgets.opening import open_panel

WAIT = 60_000
SHAPE = (6, 20, 22)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    image = read_image(write_volume(tmp_path / "scan.nii.gz", SHAPE))
    ledger = Ledger.create(tmp_path / "organ", task="organ", modality="mri", classes=("liver",), channels=("MR",))
    for who, rows in (("Ada", slice(4, 12)), ("Ben", slice(6, 12))):
        labels = np.zeros((1, *SHAPE), np.uint8)
        labels[0, 2:4, rows, 5:15] = 1
        ledger.accept(image, image.with_array(labels), who=who)
    return ledger


@pytest.fixture
def panel(gui: Any, qtbot: Any, ledger: Ledger) -> Any:
    found: Any = open_panel(gui, "Readers")
    qtbot.waitUntil(lambda: not found.busy, timeout=WAIT)
    found.collection.choose_folder(ledger.folder)
    qtbot.waitUntil(lambda: not found.busy and found.cases.rowCount() == 1, timeout=WAIT)
    return found


def opened(panel: Any, qtbot: Any) -> None:
    panel.cases.itemDoubleClicked.emit(panel.cases.item(0, 0))
    qtbot.waitUntil(lambda: panel._opened is not None and not panel.busy, timeout=WAIT)


def test_from_disputes_to_a_decision(gui: Any, panel: Any, qtbot: Any, ledger: Ledger, tiny_home: Path) -> None:
    (case,) = ledger.cases()
    assert [panel.cases.item(0, column).text() for column in range(3)] == [case, "Ada, Ben", ""]
    assert not panel.decide_button.isEnabled() and not panel.accept_button.isEnabled()
    opened(panel, qtbot)
    assert [layer.name for layer in gui.layers][1:] == [f"Ada: {case}", f"Ben: {case}", "Disputed"]
    assert panel.table.item(0, 0).text() == "liver" and panel.table.item(0, 1).text() == f"{2 * 60 / 140:.3f}"
    assert panel.said.text() == "1 disputed region, 40 voxels."
    panel.next_dispute()
    assert panel.said.text() == "Dispute 1 of 1, 40 voxels: Ada: liver, Ben: nothing."
    disputed = gui.layers["Disputed"]
    index = tuple(round(value) for value in disputed.world_to_data(gui.dims.point))
    assert disputed.data[index] == 1
    assert panel.start.count() == 4
    panel.start.setCurrentIndex(panel.start.findData("Ben"))
    panel.decide()  # in a thread: a consensus of a whole volume takes long
    qtbot.waitUntil(lambda: panel._decision is not None, timeout=WAIT)
    decision = gui.layers[f"Decision: {case}"]
    panel.open(case)  # would leave a decision that nobody could accept any more
    assert "not accepted yet" in panel.said.text() and panel._decision is decision and not panel.busy
    assert panel._current.labels is decision and int(decision.data.sum()) == 120
    decision.data_setitem((np.array([2]), np.array([4]), np.array([5])), 1)
    edit: Any = open_panel(gui, "Edit")  # where it would become one more reading
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=WAIT)
    edit.accepting.accept()
    assert "accepted in the panel Readers" in edit.accepting.said.text() and not edit.accepting.busy
    panel._current.choose_labels(gui.layers[f"Ada: {case}"])
    edit.accepting.accept()
    assert "what Ada accepted" in edit.accepting.said.text() and len(ledger.entries()) == 2
    panel._current.choose_labels(decision)
    remember_reader("Eve")
    try:
        panel.accept()
        qtbot.waitUntil(lambda: len(ledger.entries()) == 3 and not panel.busy, timeout=WAIT)
    finally:
        remember_reader("")
    entry = ledger.entries()[-1]
    assert (entry.who, entry.consensus, entry.adjudicates) == ("Eve", "reading", (1, 2))
    assert int(read_labels(ledger.files.labels(case)).array.sum()) == 121
    assert "decided by Eve between 2 readings" in panel.said.text()
    qtbot.waitUntil(lambda: panel.cases.item(0, 2).text() == "Eve", timeout=WAIT)


def test_a_case_without_disputes_and_a_button_too_early(panel: Any, qtbot: Any) -> None:
    panel.next_dispute()
    assert "Open a case" in panel.said.text()
    panel.accept()
    assert "Begin the decision first" in panel.said.text()


def test_the_readers_name_is_kept(tiny_home: Path) -> None:
    remember_reader("  Dr. Ada  ")
    assert reader_name() == "Dr. Ada"
    (tiny_home / "reader.json").write_text("[1]")
    assert reader_name() != "Dr. Ada"
    (tiny_home / "reader.json").unlink()
    remember_reader("")
    assert isinstance(reader_name(), str)


def test_a_consensus_of_a_case_that_was_closed_meanwhile_is_not_added(
    gui: Any, panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(panel, qtbot)
    threads = []

    def begun(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return begin_decision(*arguments)

    monkeypatch.setattr("napari_meduniseg.widgets.readers.begin_decision", begun)
    panel.start.setCurrentIndex(panel.start.findData("staple"))
    panel.decide()
    gui.layers.clear()
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
    assert threads[0] is not threading.main_thread()
    assert not gui.layers and "closed meanwhile" in panel.said.text()
