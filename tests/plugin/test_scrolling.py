"""Panels that scroll."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel, QMainWindow, QScrollArea, QWidget

from napari_meduniseg.widgets.scrolling import scrolling_layout


@pytest.mark.usefixtures("gui_screen")
def test_a_panel_whose_content_became_wider_becomes_wider_itself(qapp: QApplication) -> None:
    window, panel = QMainWindow(), QWidget()
    label = QLabel("short")
    scrolling_layout(panel).addWidget(label)
    central = QWidget()
    window.setCentralWidget(central)
    dock = QDockWidget()
    dock.setWidget(panel)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.resize(900, 500)
    window.show()
    qapp.processEvents()
    label.setText("a sentence that is much longer than what was there when the panel was opened, in one line")
    for _ in range(5):
        qapp.processEvents()
    area = panel.findChild(QScrollArea)
    assert label.width() >= label.sizeHint().width()
    assert area.viewport().width() >= area.widget().minimumSizeHint().width()
    window.close()
