"""A field for a folder, with a button that asks for one."""

from __future__ import annotations

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


def folder_row(edit: QLineEdit, title: str) -> QWidget:
    """The field with a button beside it; ``title`` says which folder it is."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    button = QPushButton("...")
    button.setToolTip(f"{title}: choose it.")

    def ask() -> None:
        folder = QFileDialog.getExistingDirectory(row, title, edit.text())
        if folder:
            edit.setText(folder)

    button.clicked.connect(ask)
    layout.addWidget(edit)
    layout.addWidget(button)
    return row
