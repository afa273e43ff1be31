"""What is typed into a field stays there when napari's notification goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLineEdit


@pytest.fixture
def edit(gui: Any) -> Any:
    gui.window._qt_window.show()
    _, panel = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    gui.window._qt_window.activateWindow()
    return panel


@pytest.fixture
def noted(gui: Any) -> Callable[[], Any]:
    """A notification of napari's over the canvas."""
    from napari._qt.dialogs.qt_notification import NapariQtNotification

    def show() -> Any:
        note = NapariQtNotification("Inconsistent units", "warning", parent=gui.window._qt_viewer.canvas.native)
        note.show()
        return note

    return show


def focus(field: Any, qtbot: Any) -> None:
    field.setFocus()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is field, timeout=10_000)


def test_a_notification_that_closes_leaves_the_keyboard_in_the_field(
    gui: Any, edit: Any, noted: Any, qtbot: Any
) -> None:
    canvas, note = gui.window._qt_viewer.canvas.native, noted()
    focus(edit.radius, qtbot)
    note.close()
    assert QApplication.focusWidget() is edit.radius
    qtbot.wait(100)  # the notification is gone
    canvas.setFocus()  # somebody else's wish is followed
    assert QApplication.focusWidget() is canvas


@pytest.mark.parametrize("before", ["", "1", "12"])
def test_a_number_that_is_being_typed_meanwhile_is_that_number(edit: Any, noted: Any, qtbot: Any, before: str) -> None:
    """A radius of 12 mm became 125 where the notification went between selecting the 5.0 and typing."""
    note = noted()
    focus(edit.radius, qtbot)
    qtbot.keyClick(edit.radius, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClicks(edit.radius, before)
    note.close()
    qtbot.keyClicks(edit.radius, "12".removeprefix(before))
    qtbot.keyClick(edit.radius, Qt.Key.Key_Return)
    assert edit.radius.value() == 12


def test_a_text_that_is_being_typed_meanwhile_is_that_text(edit: Any, noted: Any, qtbot: Any) -> None:
    note, field = noted(), edit.accepting.patient
    assert isinstance(field, QLineEdit)
    focus(field, qtbot)
    field.setText("P-7")
    field.setSelection(2, 1)
    note.close()
    qtbot.keyClicks(field, "12")
    assert field.text() == "P-12"
