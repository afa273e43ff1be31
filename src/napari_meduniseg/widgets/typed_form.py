"""Rows of a panel's form from a form of magicgui."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import CheckBox, FunctionGui
from qtpy.QtWidgets import QFormLayout


def add_rows(layout: QFormLayout, form: FunctionGui[..., Any]) -> None:
    """Add a row for each field: magicgui's own labels are not as wide as each other in napari's font."""
    for field in form:
        if isinstance(field, CheckBox):
            layout.addRow(field.native)
        else:
            layout.addRow(field.label, field.native)
