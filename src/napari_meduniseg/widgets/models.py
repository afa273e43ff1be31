"""The Models widget: what models there are, what each can do; install, verify, remove."""

from __future__ import annotations

from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QTextBrowser,
    QWidget,
)

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.weights import Entry, Registry
from napari_meduniseg._jobs import Job, Work
from napari_meduniseg._news import news
from napari_meduniseg.widgets.scrolling import scrolling_layout


class ModelsWidget(QWidget):
    """Shows the registry; long work runs beside the GUI."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._entries: dict[str, Entry] = {}
        self._job: Job | None = None
        self.list = QListWidget()
        self.list.setToolTip("The models on this machine; 'starter' comes with the program.")
        self.details = QTextBrowser()
        self.details.setToolTip("What the chosen model says about itself.")
        self.install_button = QPushButton("Install ...")
        self.install_button.setToolTip("Add a model from a .safetensors file; it is checked first.")
        self.verify_button = QPushButton("Verify")
        self.verify_button.setToolTip("Read the whole file and compare it with the checksum kept at installation.")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Delete the chosen model from this machine.")
        self.said = QLabel()
        self.said.setWordWrap(True)
        buttons = QHBoxLayout()
        for button in (self.install_button, self.verify_button, self.remove_button):
            buttons.addWidget(button)
        layout = scrolling_layout(self)
        layout.addWidget(self.list)
        layout.addWidget(self.details)
        layout.addLayout(buttons)
        layout.addWidget(self.said)
        self.list.currentItemChanged.connect(lambda *_: self._show())
        self.install_button.clicked.connect(self._ask_and_install)
        self.verify_button.clicked.connect(self.verify)
        self.remove_button.clicked.connect(self._ask_and_remove)
        news().models_changed.connect(self.refresh)
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether something is being installed or verified."""
        return self._job is not None

    def refresh(self, choose: str = "") -> None:
        """List the models there are now."""
        chosen = choose or self.chosen()
        self._entries = {entry.name: entry for entry in Registry().list()}
        self.list.clear()
        for name, entry in self._entries.items():
            item = QListWidgetItem(name if entry.info is not None else f"{name} (unusable)")
            item.setData(Qt.ItemDataRole.UserRole, name)
            self.list.addItem(item)
            if name == chosen:
                self.list.setCurrentItem(item)
        if self.list.currentItem() is None and self.list.count():
            self.list.setCurrentRow(0)
        self._show()

    def chosen(self) -> str | None:
        """The chosen model's name."""
        item = self.list.currentItem()
        return None if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def install(self, path: Path) -> None:
        """Add a model from a file."""
        self._start(lambda events, cancel: Registry().install(path, events=events, cancel=cancel), self._installed)

    def verify(self) -> None:
        """Check the chosen model's file."""
        name = self.chosen()
        if name is not None:
            self._start(lambda _events, _cancel: Registry().verify(name), self._verified)

    def remove(self) -> None:
        """Delete the chosen model; a shipped one is refused."""
        name = self.chosen()
        if name is None:
            return
        try:
            Registry().remove(name)
        except MedUniSegError as error:
            self.said.setText(str(error))
            return
        self.refresh()
        self.said.setText(f"Removed {name}.")
        news().models_changed.emit("")

    def _start(self, work: Work, then: object) -> None:
        if self.busy:
            return
        self._job = Job(work, self)
        self._job.done.connect(then)
        self._job.failed.connect(self._fail)
        self.said.setText("Working ...")
        self._job.start()

    def _installed(self, entry: Entry) -> None:
        self._job = None
        self.refresh(entry.name)
        self.said.setText(f"Installed {entry.name}.")
        news().models_changed.emit("")

    def _verified(self, found: object) -> None:
        self._job = None
        recorded = getattr(found, "recorded", False)
        self.said.setText(
            f"{getattr(found, 'name', '')} is whole"
            + (" and is the file that was installed." if recorded else "; no checksum was kept to compare with.")
        )

    def _fail(self, sentence: str) -> None:
        self._job = None
        self.said.setText(sentence)

    def _show(self) -> None:
        entry = self._entries.get(self.chosen() or "")
        self.remove_button.setEnabled(entry is not None and not entry.shipped)
        if entry is None:
            self.details.setPlainText("No model is installed.")
            return
        if entry.info is None:
            self.details.setPlainText(entry.problem or "This file cannot be used.")
            return
        info = entry.info
        lines = [
            info.title or info.name,
            info.description,
            info.intended_use,
            f"Licence: {info.licence or 'not stated'}",
            f"{entry.size_bytes / 1e6:.1f} MB, {'part of the program' if entry.shipped else entry.path}",
            "",
            "Tasks:",
            *(f"  {plan.task} ({plan.modality}, {plan.dimension}D): {', '.join(plan.classes)}" for plan in info.tasks),
        ]
        self.details.setPlainText("\n".join(line for line in lines if line is not None))

    def _ask_and_install(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Install a model", "", "Models (*.safetensors)")
        if name:
            self.install(Path(name))

    def _ask_and_remove(self) -> None:
        name = self.chosen()
        answer = QMessageBox.question(self, "Remove", f"Delete the model '{name}' from this machine?")
        if answer == QMessageBox.StandardButton.Yes:
            self.remove()
