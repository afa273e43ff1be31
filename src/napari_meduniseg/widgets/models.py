"""The Models widget: the models and packs there are, what each can do; install, verify, use, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QTextBrowser,
)

from meduniseg_core.adaptation.decisions import worse_pack
from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ActiveModels, PackInfo, PackRegistry, Registry, StoredAsset, read_pack_info, store
from napari_meduniseg._jobs import Work
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.working import T


class ModelsWidget(Panel):
    """Shows models, and packs below them; long work runs in threads."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._models: dict[str, StoredAsset] = {}
        self._packs: dict[str, store.StoredAsset[PackInfo]] = {}
        self.list = QListWidget()
        self.list.setToolTip("The models and packs on this machine; 'starter' comes with the program.")
        self.details = QTextBrowser()
        self.details.setToolTip("The chosen model's description.")
        self.install_button = QPushButton("Install ...")
        self.install_button.setToolTip("Add a model from a .safetensors file; it is checked first.")
        self.verify_button = QPushButton("Verify")
        self.verify_button.setToolTip("Read the whole file and compare it with the checksum kept at installation.")
        self.use_button = QPushButton("Use")
        self.use_button.setToolTip("Use the chosen pack for its tasks, or stop using it. Other tasks stay as they are.")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Delete the chosen model or pack from this machine.")
        buttons = QHBoxLayout()
        for button in (self.install_button, self.verify_button, self.use_button, self.remove_button):
            buttons.addWidget(button)
        self.content.addWidget(self.list)
        self.content.addWidget(self.details)
        self.footer.addWidget(self.said)
        self.footer.addLayout(buttons)
        self.list.currentItemChanged.connect(lambda *_: self._show())
        self.install_button.clicked.connect(self._ask_and_install)
        self.verify_button.clicked.connect(self.verify)
        self.use_button.clicked.connect(self._ask_and_use)
        self.remove_button.clicked.connect(self._ask_and_remove)
        signals().models_changed.connect(self.refresh)
        self.refresh()

    def refresh(self, choose: str = "") -> None:
        """List what there is now."""
        chosen = choose or self.chosen()
        self._models = {entry.name: entry for entry in Registry().list()}
        self._packs = {entry.name: entry for entry in PackRegistry().list() if entry.name not in self._models}
        self.list.clear()
        usable = {name: entry.info is not None for name, entry in self._models.items()}
        usable |= {name: entry.info is not None for name, entry in self._packs.items()}
        for name, is_usable in usable.items():
            kind = " (pack)" if name in self._packs else ""
            item = QListWidgetItem(f"{name}{kind}" if is_usable else f"{name}{kind} (unusable)")
            item.setData(Qt.ItemDataRole.UserRole, name)
            self.list.addItem(item)
            if name == chosen:
                self.list.setCurrentItem(item)
        if self.list.currentItem() is None and self.list.count():
            self.list.setCurrentRow(0)
        self._show()

    def chosen(self) -> str | None:
        """The chosen model's or pack's name."""
        item = self.list.currentItem()
        return None if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def install(self, path: Path) -> None:
        """Add a model or a pack from a file."""
        self._start(
            lambda events, cancel: _store_for(path).install(path, events=events, cancel=cancel), self._installed
        )

    def verify(self) -> None:
        """Check the chosen file."""
        name = self.chosen()
        if name is not None:
            store = self._store(name)
            self._start(lambda _events, _cancel: store.verify(name), self._verified)

    def use_or_not(self) -> None:
        """Put the chosen pack into use, or take it out of use."""
        name = self.chosen()
        if name not in self._packs:
            return
        self._start(lambda _events, _cancel: _switch(str(name)), self._switched)

    def remove(self) -> None:
        """Delete what is chosen; a shipped model cannot be deleted."""
        name = self.chosen()
        if name is None:
            return
        with self.saying_failures():
            self._store(name).remove(name)
            self.refresh()
            self.say(f"Removed {name}.")
            signals().models_changed.emit("")

    def _store(self, name: str) -> Registry | PackRegistry:
        return PackRegistry() if name in self._packs else Registry()

    def _start(self, work: Work[T], then: Callable[[T], None]) -> None:
        self.do_beside(work, then, text="Working ...", title="Work on a model")

    def _installed(self, entry: StoredAsset | store.StoredAsset[PackInfo]) -> None:
        self.refresh(entry.name)
        self.say(f"Installed {entry.name}.")
        signals().models_changed.emit("")

    def _verified(self, found: object) -> None:
        recorded = getattr(found, "recorded", False)
        self.say(
            f"{getattr(found, 'name', '')} is whole"
            + (" and is the file that was installed." if recorded else "; no checksum was kept to compare with.")
        )

    def _switched(self, sentence: str) -> None:
        self._show()
        self.say(sentence)
        signals().models_changed.emit("")

    def _show(self) -> None:
        try:
            self._show_details()
        except MedUniSegError as error:
            self.details.setPlainText(str(error))

    def _show_details(self) -> None:
        name = self.chosen() or ""
        pack = name in self._packs
        entry = self._packs.get(name) or self._models.get(name)
        self.remove_button.setEnabled(entry is not None and (pack or not entry.shipped))
        self.use_button.setEnabled(pack)
        self.use_button.setText("Do not use" if pack and PackRegistry().in_use_for(name) else "Use")
        if entry is None:
            self.details.setPlainText("No model is installed.")
        elif entry.info is None:
            self.details.setPlainText(entry.problem or "This file cannot be used.")
        elif isinstance(entry.info, PackInfo):
            self.details.setPlainText(_pack_text(entry, entry.info))
        else:
            self.details.setPlainText(_model_text(entry))

    def _ask_and_install(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Install a model", "", "Models (*.safetensors)")
        if name:
            self.install(Path(name))

    def _ask_and_use(self) -> None:
        """Use the chosen pack or not; one that was found worse than its base only if the user insists."""
        name = self.chosen()
        if name in self._packs:
            with self.saying_failures():
                why = None if PackRegistry().in_use_for(str(name)) else worse_pack(str(name))
                if why is not None:
                    question = f"{why}\n\nUse it anyway?"
                    no = QMessageBox.StandardButton.No
                    if QMessageBox.question(self, "Use", question, defaultButton=no) == no:
                        return
                self.use_or_not()

    def _ask_and_remove(self) -> None:
        name = self.chosen()
        answer = QMessageBox.question(self, "Remove", f"Delete the model '{name}' from this machine?")
        if answer == QMessageBox.StandardButton.Yes:
            self.remove()


def _switch(name: str) -> str:
    """Put a pack into use, or take it out of use; returns a sentence."""
    packs = PackRegistry()
    if packs.in_use_for(name):
        return f"{name} is no longer used for {', '.join(packs.deactivate(name))}."
    return f"{name} is in use for {', '.join(packs.activate(name))}."


def _store_for(path: Path) -> Registry | PackRegistry:
    """The store that a file belongs in; a file that is not a pack is treated as a model."""
    try:
        read_pack_info(path)
    except BadInputError:
        return Registry()
    return PackRegistry()


def _pack_text(entry: store.StoredAsset[PackInfo], info: PackInfo) -> str:
    used = PackRegistry().in_use_for(entry.name)
    lines = [
        info.title or info.name,
        f"A pack for the model {info.base}; it changes {', '.join(info.tasks)} and nothing else.",
        f"In use for: {', '.join(used) or 'nothing'}",
        f"Licence: {info.licence or 'not stated'}",
        f"{entry.size_bytes / 1e6:.1f} MB, {entry.path}",
    ]
    return "\n".join(lines)


def _model_text(entry: StoredAsset) -> str:
    info = entry.info
    assert info is not None
    active = ActiveModels().entries()
    used = [task for task, one in active.items() if (one.kind, one.model) == ("model", entry.name)]
    lines = [
        info.title or info.name,
        info.description,
        info.intended_use,
        f"Licence: {info.licence or 'not stated'}",
        f"{entry.size_bytes / 1e6:.1f} MB, {'part of the program' if entry.shipped else entry.path}",
        *([f"Adopted for: {', '.join(used)}"] if used else []),
        "",
        "Tasks:",
        *(f"  {_named(plan)}{plan.modality}, {plan.dimension}D): {', '.join(plan.classes)}" for plan in info.tasks),
    ]
    return "\n".join(lines)


def _named(plan: TaskPlan) -> str:
    """A task's title, and the name by which commands know it where that is another."""
    title = plan.shown_title
    return f"{title} (" if title == plan.task else f"{title} ({plan.task}, "
