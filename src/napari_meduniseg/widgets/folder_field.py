"""Fields for a folder or a file, with a button that asks for one."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


def folder_row(edit: QLineEdit, title: str) -> QWidget:
    """The field with a button beside it; ``title`` says which folder it is."""
    return _row(edit, title, lambda row: QFileDialog.getExistingDirectory(row, title, edit.text()))


def file_row(edit: QLineEdit, title: str, kinds: str) -> QWidget:
    """The field with a button beside it; ``title`` says which file it is, ``kinds`` what is listed (as Qt wants it)."""
    return _row(edit, title, lambda row: QFileDialog.getOpenFileName(row, title, edit.text(), kinds)[0])


def _row(edit: QLineEdit, title: str, choose: Callable[[QWidget], str]) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    button = QPushButton("...")
    button.setToolTip(f"{title}: choose it.")

    def ask() -> None:
        chosen = choose(row)
        if chosen:
            edit.setText(chosen)

    button.clicked.connect(ask)
    layout.addWidget(edit)
    layout.addWidget(button)
    return row
