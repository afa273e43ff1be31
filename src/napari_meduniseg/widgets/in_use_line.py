"""A line beside Run: which model or pack is used because it is in use, and how to use the shipped model instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.events import Event, Message
from meduniseg_core.weights import DEFAULT_MODEL, ActiveModels, Registry
from meduniseg_core.weights.offer import Offer, offer_in_use, offer_of

IN_USE = ""
"""The data of the combo box's entry for what is in use; other entries hold a model's name."""

_PACKS, _IN_USE = "#packs", "#in_use"  # targets of links
_LINK = "#4a90e2"  # Qt's own blue cannot be read on napari's dark theme


class ModelCombo(QComboBox):
    """The models there are, and before them what is in use for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.refresh()

    def refresh(self, choose: str | None = None) -> None:
        """List what there is now, with ``choose`` (a name, or ``IN_USE``) chosen, else what was, where it is there."""
        wanted = self.currentData() if choose is None else choose
        self.clear()
        self.addItem("In use for each task", IN_USE)
        for entry in Registry().list():
            if entry.info is not None:
                self.addItem(entry.name, entry.name)
        self.setCurrentIndex(max(0, self.findData(wanted)))

    def offer(self) -> Offer:
        """What the chosen entry can do; ``problems`` says what is in use and cannot be used."""
        self.problems = []
        if self.currentData() != IN_USE:
            return offer_of(self.currentData())
        try:
            return offer_in_use(self._note)
        except MedUniSegError as error:
            self.problems.append(str(error))
            return offer_of(DEFAULT_MODEL)

    def _note(self, event: Event) -> None:
        if isinstance(event, Message):
            self.problems.append(event.text)


class InUseLine(QLabel):
    """``instead`` asks for another entry of the models' box; ``packs``: whether packs that are in use are used."""

    instead = Signal(str)
    packs_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.packs = True
        self.setWordWrap(True)
        self.setToolTip("Models that learned from accepted corrections and were put into use.")
        self.linkActivated.connect(self._follow)
        self.hide()

    def show_for(self, models: Mapping[str, str], combo: ModelCombo, offer: Offer | None) -> None:
        """Say what is in use for these tasks, each of which is done by a model."""
        sentences = [escape(text) for text in combo.problems]
        if offer is not None and models:
            try:
                sentences += self._sentences(models, offer, combo.currentData() == IN_USE)
            except MedUniSegError as error:
                sentences.append(escape(str(error)))
        self.setText(" ".join(dict.fromkeys(sentences)))
        self.setVisible(bool(sentences))

    def _sentences(self, models: Mapping[str, str], offer: Offer, in_use: bool) -> Iterator[str]:
        active = ActiveModels()
        entries = {task: entry for task, entry in active.entries().items() if task in models}
        if in_use:
            for text, base_can in offer.instead_of_base(list(models)):
                other = f"; {_link(offer.base, f'use {offer.name} instead')}" if base_can else ""
                yield f"{escape(text)}{other}."
        for task, entry in entries.items():
            served_by = active.served_by(entry)
            if served_by is not None and served_by != models[task]:
                which = f"A pack of {served_by} is in use" if entry.kind == "pack" else f"{served_by} was adopted"
                yield f"{escape(which)} for {escape(task)}: {_link(_IN_USE, 'use it')}."
            elif served_by is not None and entry.kind == "pack":
                pack = f"pack {escape(entry.model)}"
                if self.packs:
                    yield f"The {pack} is used for {escape(task)}; {_link(_PACKS, 'leave it out')}."
                else:
                    yield f"The {pack}, in use for {escape(task)}, is left out; {_link(_PACKS, 'use it')}."

    def _follow(self, target: str) -> None:
        if target == _PACKS:
            self.packs = not self.packs
            self.packs_changed.emit()
        else:
            self.instead.emit(IN_USE if target == _IN_USE else target)


def _link(target: str, text: str) -> str:
    return f"<a href='{escape(target)}' style='color: {_LINK}'>{escape(text)}</a>"
