"""Every control of every panel says in a tooltip what it does, no text is jargon, and F1 lists the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from panel_names import PANELS
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QGroupBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QTextBrowser,
    QWidget,
)

from napari_meduniseg.widgets.opening import open_panel
from napari_meduniseg.widgets.shortcut_sheet import show_sheet

_CONTROLS = (QAbstractButton, QAbstractItemView, QAbstractSpinBox, QComboBox, QLineEdit, QProgressBar, QTextBrowser)
_JARGON = re.compile(
    r"\b(windows?|checkpoints?|voxels? of a (photograph|picture)|logits?|epochs?|iterations?)\b", re.IGNORECASE
)


def controls(panel: QWidget) -> Iterator[QWidget]:
    for widget in panel.findChildren(QWidget):
        part_of_another = any(isinstance(above, _CONTROLS) for above in parents(widget, panel))
        if (
            isinstance(widget, _CONTROLS)
            and not part_of_another
            and not type(widget).__module__.startswith("pyqtgraph")
        ):
            yield widget


def parents(widget: QWidget, top: QWidget) -> Iterator[QWidget]:
    above = widget.parentWidget()
    while above is not None and above is not top:
        yield above
        above = above.parentWidget()


def words(widget: QWidget) -> list[str]:
    """What a widget says, all entries of a list included."""
    if isinstance(widget, QComboBox):
        return [widget.itemText(row) for row in range(widget.count())]
    if isinstance(widget, QLabel | QAbstractButton):
        return [widget.text()]
    return [widget.title()] if isinstance(widget, QGroupBox) else []


@pytest.fixture
def panels(gui: Any) -> dict[str, QWidget]:
    return {name: open_panel(gui, name) for name in PANELS}


def test_every_control_has_a_tooltip(panels: dict[str, QWidget]) -> None:
    mute = [
        f"{name}: {type(widget).__name__} {getattr(widget, 'text', lambda: '')()!r}"
        for name, panel in panels.items()
        for widget in controls(panel)
        if not any(one.toolTip() for one in (widget, *parents(widget, panel)))
    ]
    assert mute == [] and sum(1 for panel in panels.values() for _ in controls(panel)) > 40


def test_no_label_or_tooltip_is_jargon(panels: dict[str, QWidget]) -> None:
    said = [
        f"{name}: {text}"
        for name, panel in panels.items()
        for widget in panel.findChildren(QWidget)
        for text in (widget.toolTip(), *words(widget))
        if _JARGON.search(text.replace("CT window", "").replace("usual windows of CT", ""))
    ]
    assert said == []


def test_the_sheet_lists_the_keys_of_the_panels(panels: dict[str, QWidget], qtbot: Any) -> None:
    sheet = show_sheet(panels["Edit"].window())
    qtbot.addWidget(sheet)
    rows = {sheet.table.item(row, 0).text(): sheet.table.item(row, 1).text() for row in range(sheet.table.rowCount())}
    assert "outline" in rows["Shift+C"].lower() and "Grow" in rows["Shift+G"] and "F1" in rows and "Ctrl+R" in rows
