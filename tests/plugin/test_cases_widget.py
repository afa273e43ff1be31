"""The Cases panel in a real viewer: one case after the other, predictions by the real command."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal
from small_inputs import write_scans

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import load_model
from meduniseg_core.worklist import Worklist
from napari_meduniseg import _unsaved
from napari_meduniseg._cases import CaseCorrection, case_correction
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.opening import open_panel

WAIT = 120_000


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "cases")


@pytest.fixture
def collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's collections, of the test's own."""
    folder = tmp_path / "collections"
    monkeypatch.setattr("napari_meduniseg.widgets.cases.corrections_folder", lambda: folder)
    monkeypatch.setattr("napari_meduniseg._collections.corrections_folder", lambda: folder)
    return folder


@pytest.fixture
def panel(gui: Any, cases: Path, collections: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("napari_meduniseg.widgets.prediction.PRIORITY", ())  # tests do not wait for other programs
    found: Any = open_panel(gui, "Cases")
    found.model.setCurrentText("tiny")
    found.task.setCurrentText("vessel")
    found.folder.setText(str(cases))
    found.ahead.setChecked(False)
    return found


def predicted(folder: Path, *names: str) -> Worklist:
    listed = Worklist(folder, folder.with_name("cases_vessel"), "vessel", channels=1)
    predictor = Predictor(load_model("tiny"), "cpu", "fp32")
    for name in names:
        listed.predict(name, predictor)
    return listed


def rows(panel: Any) -> list[str]:
    """Name and state of each case, as shown."""
    table = panel.cases
    return [" ".join(table.item(row, 0).text().split("\n")) for row in range(table.rowCount())]


def listed(panel: Any, qtbot: Any) -> None:
    panel.list_button.click()
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)


def opened(panel: Any, qtbot: Any, name: str) -> Labels:
    qtbot.waitUntil(lambda: panel._open_name == name, timeout=WAIT)
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
    labels: Labels = panel._current.labels
    return labels


def painted(layer: Labels) -> None:
    layer.data_setitem((np.arange(3), np.arange(3), np.arange(3)), 2)
    layer.events.paint(value=[])


def first_of_two(gui: Any, panel: Any, qtbot: Any, cases: Path) -> tuple[Any, Labels]:
    """Edit, and the labels of the open one of two predicted cases; the other follows its acceptance."""
    predicted(cases, "scan0", "scan1")
    listed(panel, qtbot)
    panel.next_on_accept.setChecked(True)
    panel.open("scan0")
    labels = opened(panel, qtbot, "scan0")
    edit: Any = open_panel(gui, "Edit")
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=WAIT)
    return edit, labels


def test_one_case_after_the_other_keeps_corrections_and_the_acceptance_counts(
    gui: Any, panel: Any, qtbot: Any, cases: Path, collections: Path
) -> None:
    worklist = predicted(cases, "scan0", "scan1", "scan2")
    listed(panel, qtbot)
    assert rows(panel) == ["scan0 predicted", "scan1 predicted", "scan2 predicted"]
    assert panel.said.text() == "3 cases, 3 to do."
    panel.next_button.click()
    labels = opened(panel, qtbot, "scan0")
    assert [layer.name for layer in gui.layers] == ["scan0.nii.gz", "scan0.nii.gz: vessel"]
    assert not _unsaved.is_unsaved(labels) and list(labels.features["name"]) == ["background", "artery", "vein"]
    painted(labels)
    assert _unsaved.is_unsaved(labels)
    panel.next()
    second = opened(panel, qtbot, "scan1")
    assert [layer.name for layer in gui.layers] == ["scan1.nii.gz", second.name]
    assert rows(panel)[0] == "scan0 corrected" and rows(panel)[1] == "scan1 predicted, open"
    kept = read_labels(worklist.results / "scan0.nii.gz").array
    assert kept[0, 1, 1, 1] == 2 and json.loads((worklist.results / "scan0.json").read_text())["edited"] is True
    panel.open("scan0")  # what was corrected comes back, and is nobody's prediction
    again = opened(panel, qtbot, "scan0")
    assert again.data[1, 1, 1] == 2 or np.count_nonzero(again.data == 2) >= 3
    edit: Any = open_panel(gui, "Edit")
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=WAIT)
    panel.next_on_accept.setChecked(True)
    edit.accepting.accept()
    opened(panel, qtbot, "scan1")
    assert rows(panel)[0] == "scan0 accepted"
    assert panel.said.text() == "scan0 is accepted. scan1: Correct it in Edit, then Accept it there."
    (entry,) = Ledger.open(collections / "vessel").entries()
    assert not entry.has_prediction and entry.model is not None and entry.model.name == "tiny"
    panel.skip()
    opened(panel, qtbot, "scan2")
    assert rows(panel)[1] == "scan1 skipped"


def test_a_case_about_which_acceptance_says_something_stays_open(
    gui: Any, panel: Any, qtbot: Any, cases: Path, collections: Path
) -> None:
    edit, labels = first_of_two(gui, panel, qtbot, cases)
    labels.data = np.zeros_like(labels.data)
    edit.accepting.accept()
    qtbot.waitUntil(lambda: rows(panel)[0] == "scan0 accepted, open", timeout=WAIT)
    qtbot.waitUntil(lambda: not panel.busy and not edit.accepting.busy, timeout=WAIT)
    qtbot.wait(200)
    assert panel._open_name == "scan0" and panel.said.text() == "scan0 is accepted."
    assert "without any label" in edit.accepting.said.text()


def test_accepting_a_prediction_as_it_was_opened_knows_what_was_changed(
    gui: Any, panel: Any, qtbot: Any, cases: Path, collections: Path
) -> None:
    predicted(cases, "scan1")
    listed(panel, qtbot)
    panel.open("scan1")
    labels = opened(panel, qtbot, "scan1")
    painted(labels)
    edit: Any = open_panel(gui, "Edit")
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=WAIT)
    edit.accepting.accept()
    qtbot.waitUntil(lambda: rows(panel)[1] == "scan1 accepted, open", timeout=WAIT)
    (entry,) = Ledger.open(collections / "vessel").entries()
    assert entry.has_prediction and 0 < sum(one.added or 0 for one in entry.classes) <= 3
    assert entry.image_sha256 == read_image(cases / "scan1.nii.gz").sha256


def test_the_open_case_is_predicted_first_then_the_next_and_no_other(
    gui: Any, panel: Any, qtbot: Any, cases: Path
) -> None:
    listed(panel, qtbot)
    panel.next()
    assert opened(panel, qtbot, "scan0") is None
    panel.ahead.setChecked(True)
    assert panel.prediction.case == "scan0" and panel.prediction.isVisibleTo(panel)
    qtbot.waitUntil(lambda: panel._case.labels is not None, timeout=WAIT)
    assert panel._current.labels is panel._case.labels and not _unsaved.is_unsaved(panel._case.labels)
    qtbot.waitUntil(lambda: not panel.prediction.running and rows(panel)[1] == "scan1 predicted", timeout=WAIT)
    assert rows(panel) == ["scan0 predicted, open", "scan1 predicted", "scan2 new"]


def test_a_case_that_fails_is_named_and_not_tried_for_ever(panel: Any, qtbot: Any, cases: Path) -> None:
    (cases / "bad.nii.gz").write_bytes(b"nothing")
    for number in range(3):
        (cases / f"scan{number}.nii.gz").unlink()
    listed(panel, qtbot)
    panel.all_button.setChecked(True)
    qtbot.waitUntil(lambda: not panel.all_button.isChecked(), timeout=WAIT)
    assert rows(panel) == ["bad failed"] and "bad" in panel.cases.item(0, 0).toolTip()
    assert not panel.prediction.running and panel._wanted_next() is None


def test_what_is_missing_is_said_and_orders_are_followed(panel: Any, qtbot: Any, cases: Path) -> None:
    panel.next()
    assert "List the cases" in panel.said.text()
    panel.folder.setText("nowhere")
    panel.list_button.click()
    assert "is not a folder" in panel.said.text()
    panel.folder.setText(str(cases))
    predicted(cases, "scan2")
    listed(panel, qtbot)
    panel.cases.horizontalHeader().sectionClicked.emit(3)
    assert panel.order.currentData() == "worth" and not panel.cases.isColumnHidden(3) and panel.cases.isColumnHidden(1)
    assert [row.split()[0] for row in rows(panel)] == ["scan2", "scan0", "scan1"]  # what is worth is known of one
    assert not panel.cases._pictures  # nobody sees them yet
    panel.window().show()
    qtbot.waitUntil(lambda: not panel.cases.item(0, 0).icon().isNull(), timeout=WAIT)


def test_labels_made_by_hand_where_there_was_no_prediction_are_kept(
    gui: Any, panel: Any, qtbot: Any, cases: Path
) -> None:
    listed(panel, qtbot)
    panel.next()
    assert opened(panel, qtbot, "scan0") is None
    image = gui.layers[0]
    mine = gui.add_labels(np.zeros(image.data.shape, np.uint8), scale=image.scale, translate=image.translate,
                          units=image.units)  # fmt: skip
    assert panel._current.labels is mine
    _unsaved.watch(mine)
    painted(mine)
    panel.next()
    opened(panel, qtbot, "scan1")
    assert [layer.name for layer in gui.layers] == ["scan1.nii.gz"]
    assert rows(panel)[:2] == ["scan0 corrected", "scan1 new, open"]
    assert int(read_labels(cases.with_name("cases_vessel") / "scan0.nii.gz").array.sum()) == 6
    panel.open("scan0")
    assert int(opened(panel, qtbot, "scan0").data.sum()) == 6


def test_a_case_is_not_opened_while_it_is_saved_and_another_is_saved_meanwhile(
    gui: Any, panel: Any, qtbot: Any, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worklist, go_on = predicted(cases, "scan0", "scan1"), threading.Event()

    def slow(*arguments: Any) -> CaseCorrection:
        given = case_correction(*arguments)
        return replace(given, write=lambda: (go_on.wait(WAIT / 1000), given.write()))

    monkeypatch.setattr("napari_meduniseg._shown_case.case_correction", slow)
    listed(panel, qtbot)
    for name in ("scan0", "scan1"):
        panel.open(name)
        qtbot.waitUntil(lambda name=name: panel._open_name == name and not panel.does("open"), timeout=WAIT)
        painted(panel._current.labels)
    panel.open("scan2")
    qtbot.waitUntil(lambda: panel._open_name == "scan2" and not panel.does("open"), timeout=WAIT)
    panel.open("scan0")
    assert panel.said.text() == "scan0 is being saved; open it in a moment." and panel._open_name == "scan2"
    go_on.set()
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
    assert rows(panel) == ["scan0 corrected", "scan1 corrected", "scan2 new, open"]
    assert all(read_labels(worklist.results / f"{name}.nii.gz").array[0, 1, 1, 1] == 2 for name in ("scan0", "scan1"))
    assert [layer.name for layer in gui.layers] == ["scan2.nii.gz"]


def test_labels_do_not_come_to_an_image_that_was_removed_and_the_case_opens_again(
    gui: Any, panel: Any, qtbot: Any, cases: Path
) -> None:
    listed(panel, qtbot)
    panel.next()
    assert opened(panel, qtbot, "scan0") is None
    gui.layers.clear()
    predicted(cases, "scan0")
    panel.prediction.ended.emit("")
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
    assert rows(panel)[0] == "scan0 predicted, open" and not gui.layers
    panel.open("scan0")
    qtbot.waitUntil(lambda: len(gui.layers) == 2 and not panel.busy, timeout=WAIT)


class _FakeCommand(QObject):
    """A command that ends when the test says so."""

    reported = Signal(dict)
    finished = Signal(object, int)
    made: list[_FakeCommand] = []  # noqa: RUF012 - emptied by each test

    def __init__(self, arguments: list[str], parent: QObject) -> None:
        super().__init__(parent)
        self.case = arguments[arguments.index("--predict") + 1]
        self.cancelled = False
        self.made.append(self)

    def start(self) -> None:
        pass

    def cancel(self) -> None:
        self.cancelled = True


def test_a_new_list_predicts_once_the_former_prediction_has_stopped(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_meduniseg.widgets.prediction.Command", _FakeCommand)
    _FakeCommand.made.clear()
    panel.ahead.setChecked(True)
    listed(panel, qtbot)
    (first,) = _FakeCommand.made
    listed(panel, qtbot)
    assert first.cancelled and len(_FakeCommand.made) == 1  # one at a time
    first.reported.emit({"event": "error", "message": "Stopped on request.", "exit_code": 130})
    first.finished.emit(None, 130)
    qtbot.waitUntil(lambda: len(_FakeCommand.made) == 2, timeout=WAIT)
    assert _FakeCommand.made[1].case == first.case == "scan0"
    assert rows(panel) == ["scan0 new", "scan1 new", "scan2 new"]
    _FakeCommand.made[1].finished.emit(None, 4)
    qtbot.waitUntil(lambda: rows(panel)[0] == "scan0 failed", timeout=WAIT)
    assert "code 4" in panel.cases.item(0, 0).toolTip()


def test_a_second_reader_sees_nothing_of_the_first_one(
    gui: Any, panel: Any, qtbot: Any, cases: Path, collections: Path
) -> None:
    edit: Any = open_panel(gui, "Edit")
    worklist = predicted(cases, "scan0", "scan1")
    panel.reader.setText("Ada")
    panel.reader.editingFinished.emit()
    assert edit.accepting.reader.text() == "Ada"
    listed(panel, qtbot)
    panel.open("scan1")
    painted(opened(panel, qtbot, "scan1"))
    panel.open("scan0")
    painted(opened(panel, qtbot, "scan0"))
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=WAIT)
    edit.accepting.accept()
    qtbot.waitUntil(lambda: rows(panel) == ["scan0 accepted, open", "scan1 corrected", "scan2 new"], timeout=WAIT)
    edit.accepting.reader.setText("Ben")  # told in one panel, known in the other
    edit.accepting.reader.editingFinished.emit()
    assert panel.reader.text() == "Ben"
    panel.second.setChecked(True)
    qtbot.waitUntil(lambda: rows(panel) == ["scan0 new", "scan1 new", "scan2 new"], timeout=WAIT)
    qtbot.waitUntil(lambda: not panel.busy and len(gui.layers) == 0, timeout=WAIT)
    assert "Second reading by Ben" in panel.said.text()
    panel.open("scan0")
    opened(panel, qtbot, "scan0")
    assert [layer.name for layer in gui.layers] == ["scan0.nii.gz"] and panel._current.labels is None
    own = panel._worklist.results
    assert own != worklist.results and own.parent == worklist.results.parent
    panel.second.setChecked(False)
    qtbot.waitUntil(lambda: rows(panel) == ["scan0 accepted", "scan1 corrected", "scan2 new"], timeout=WAIT)
    panel.second.setChecked(True)
    panel.reader.setText("")
    panel.reader.editingFinished.emit()
    assert "enter the reader's name" in panel.said.text()


def test_what_is_accepted_of_another_image_opens_no_other_case(
    gui: Any, panel: Any, qtbot: Any, cases: Path, collections: Path
) -> None:
    edit, _ = first_of_two(gui, panel, qtbot, cases)
    edit.accepting.accept()
    opened(panel, qtbot, "scan1")
    other = gui.add_image(np.zeros((4, 5, 6), np.float32), name="of Readers, say")
    panel._current.choose_image(other)
    signals().accepted.emit(str(collections / "vessel"), False)
    qtbot.waitUntil(lambda: panel.busy, timeout=WAIT)
    qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
    qtbot.wait(200)
    assert not panel.busy and panel._open_name == "scan1"
    assert rows(panel) == ["scan0 accepted", "scan1 predicted, open", "scan2 new"]
