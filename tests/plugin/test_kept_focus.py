"""What is typed into a field stays there when napari's notification goes."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QApplication


def test_a_notification_that_closes_leaves_the_keyboard_in_the_field(gui: Any, qtbot: Any) -> None:
    from napari._qt.dialogs.qt_notification import NapariQtNotification

    gui.window._qt_window.show()
    _, edit = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    canvas = gui.window._qt_viewer.canvas.native
    gui.window._qt_window.activateWindow()
    note = NapariQtNotification("Inconsistent units", "warning", parent=canvas)
    note.show()
    edit.radius.setFocus()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is edit.radius, timeout=10_000)
    note.close()
    assert QApplication.focusWidget() is edit.radius
    qtbot.wait(100)  # the notification is gone
    canvas.setFocus()  # somebody else's wish is followed
    assert QApplication.focusWidget() is canvas
