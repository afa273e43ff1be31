"""The Readers widget: cases that several readers have labelled, their disagreements, and the decision."""

from __future__ import annotations

from collections.abc import Sequence

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)
from superqt.utils import signals_blocked

from meduniseg_core.corrections import LedgerEntry
from napari_meduniseg import _unsaved
from napari_meduniseg._current import current_of
from napari_meduniseg._layers import LayerData
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg._reader_name import reader_name
from napari_meduniseg._readings import (
    OpenedReadings,
    SharedCase,
    accept_decision,
    add_decision,
    add_readings,
    begin_decision,
    list_shared,
    open_readings,
    place_of_voxel,
    said_at,
)
from napari_meduniseg._signals import signals
from napari_meduniseg._views import show_place
from napari_meduniseg.widgets.collection_combo import CollectionCombo
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.shortcut_sheet import list_keys
from napari_meduniseg.widgets.window_key import bind_in_window

DISPUTE_KEY = "F4"
_CASES, _OPEN, _BEGIN, _DECIDE = "cases", "open", "begin", "decide"  # kinds of work


class ReadersWidget(Panel):
    """Compares what readers accepted of a case, leads from one dispute to the next and stores the decision."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._opened: OpenedReadings | None = None
        self._image: ImageLayer | None = None
        self._layers: list[Layer] = []
        self._decision: Labels | None = None
        self._start = ""
        self._at = -1
        self._cases: list[SharedCase] = []
        self.collection = CollectionCombo()
        self.collection.setToolTip("Where the readers accepted their labels.")
        self.cases = _table(("case", "readers", "decided by"), "Cases with several readers; double click opens one.")
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0.1, 50.0)
        self.tolerance.setValue(2.0)
        self.tolerance.setSuffix(" mm")
        self.tolerance.setToolTip("Outlines closer than this count as equal in surface Dice (pixels for pictures).")
        self.table = _table(
            ("class", "Dice", "surface", "worst slice"),
            "Dice and surface Dice, means over all pairs of readers. Double click goes to the worst slice.",
        )
        self.dispute_button = QPushButton(f"Next dispute ({DISPUTE_KEY})")
        self.dispute_button.setToolTip("Go to the next region that readers label differently, the largest first.")
        self.start = QComboBox()
        self.start.setToolTip("What the decision begins with: the readers' consensus, or one reader's labels.")
        self.decide_button = QPushButton("Begin the decision")
        self.decide_button.setToolTip("Add the labels to begin with; correct them in Edit where readers disagree.")
        self.accept_button = QPushButton("Accept the decision")
        self.accept_button.setToolTip("Store it as the case's labels; every reader's own labels stay in the history.")
        self._lay_out()
        self._enable()
        self.collection.listed.connect(self._list_cases)
        self.collection.picked.connect(self._list_cases)
        self.collection.failed.connect(self.say_failure)
        self.cases.itemDoubleClicked.connect(lambda item: self.open(self._cases[item.row()].case))
        self.table.itemDoubleClicked.connect(lambda item: self._go_to_worst(item.row()))
        self.dispute_button.clicked.connect(self.next_dispute)
        self.decide_button.clicked.connect(self.decide)
        self.accept_button.clicked.connect(self.accept)
        list_keys([(DISPUTE_KEY, "Next dispute of the Readers panel")])
        self.collection.refresh()

    @property
    def busy(self) -> bool:
        """Whether something is computed, or collections are looked for."""
        return super().busy or self.collection.busy

    # -- the lists ----------------------------------------------------------------------------------------------

    def _list_cases(self, _kept: bool = False) -> None:
        chosen = self.collection.current()
        if chosen is None:
            self._show_cases([])
            return
        self.start_job(
            lambda _events, _cancel: list_shared(chosen.folder),
            self._show_cases,
            self.say_failure,
            kind=_CASES,
            anew=True,
        )

    def _show_cases(self, cases: list[SharedCase]) -> None:
        self._cases = cases
        _fill(self.cases, [(one.case, ", ".join(one.readers), one.decided) for one in cases])
        if self._opened is None:
            self.say(
                "Open a case with a double click."
                if cases
                else "No case of this collection has several readers yet: each accepts under their own name, in Edit."
            )

    # -- one case -----------------------------------------------------------------------------------------------

    def open(self, case: str) -> None:
        """Open a case with every reader's labels."""
        chosen, decision = self.collection.current(), self._decision
        if chosen is None:
            return
        if decision is not None and decision in self._current.viewer.layers and _unsaved.is_unsaved(decision):
            self.say_failure(f"{decision.name} is not accepted yet; accept it, or remove its layer, first.")
            return
        tolerance = self.tolerance.value()
        started = self.start_job(
            lambda _events, cancel: open_readings(chosen.folder, case, tolerance, cancel),
            self._show,
            self.say_failure,
            kind=_OPEN,
        )
        if started:
            self.say(f"Comparing the readers of {case} ...")

    def _show(self, opened: OpenedReadings) -> None:
        self._put_away()
        self._opened, self._at = opened, -1
        self._image, self._layers = add_readings(opened, self._current.viewer)
        self._current.choose_image(self._image)
        first = next((layer for layer in self._layers if isinstance(layer, Labels)), None)
        if first is not None:
            self._current.choose_labels(first)
        rows = []
        for one in opened.agreement.classes:
            worst = one.worst_slice
            where = "" if worst is None or opened.image.is_2d else f"{worst.index} ({worst.dice:.2f})"
            rows.append((one.name, f"{one.dice:.3f}", f"{one.surface_dice:.3f}", where))
        _fill(self.table, rows)
        self.table.setColumnHidden(3, opened.image.is_2d)
        self.tolerance.setSuffix(" mm" if opened.image.physical else " px")
        with signals_blocked(self.start):
            self.start.clear()
            self.start.addItem("Majority", "majority")
            self.start.addItem("STAPLE", "staple")
            for name in opened.readings.labels:
                self.start.addItem(f"{name}'s labels", name)
        what = "pixels" if opened.image.is_2d else "voxels"
        count, voxels = len(opened.regions), opened.agreement.disputed
        regions = "region" if count == 1 else "regions"
        self.say(f"{count} disputed {regions}, {voxels:,} {what}." if count else "The readers agree everywhere.")
        self._enable()

    def next_dispute(self) -> None:
        """Show the next disputed region, the largest first."""
        opened, image = self._opened, self._shown_image()
        if opened is None or image is None:
            self.say_failure("Open a case with several readers first.")
            return
        if not opened.regions:
            self.say("The readers agree everywhere.")
            return
        self._at = (self._at + 1) % len(opened.regions)
        region = opened.regions[self._at]
        self._go_to(place_of_voxel(opened, region.voxel, image))
        what = "pixels" if opened.image.is_2d else "voxels"
        self.say(
            f"Dispute {self._at + 1} of {len(opened.regions)}, {region.voxels:,} {what}: {said_at(opened, region)}."
        )

    def _go_to_worst(self, row: int) -> None:
        """Show the slice in which readers agree least on a class: a dispute in it, else its middle."""
        opened, image = self._opened, self._shown_image()
        if opened is None or image is None:
            return
        worst = opened.agreement.classes[row].worst_slice
        if worst is not None:
            _, height, width = opened.image.geometry.shape
            inside = (one.voxel for one in opened.regions if one.voxel[0] == worst.index)
            voxel = next(inside, (worst.index, height // 2, width // 2))
            self._go_to(place_of_voxel(opened, voxel, image))

    def _go_to(self, world: tuple[float, ...]) -> None:
        viewer = self._current.viewer
        show_place(viewer, world)
        point = viewer.dims.point
        shown, camera = viewer.dims.displayed, camera_of(viewer)
        centre = list(camera.center)
        for place, axis in enumerate(shown):
            centre[len(centre) - len(shown) + place] = point[axis]
        camera.center = tuple(centre)

    def decide(self) -> None:
        """Add the labels that the decision begins with; a consensus is computed in a thread."""
        opened, start = self._opened, str(self.start.currentData())
        if opened is None or self._shown_image() is None:
            self.say_failure("Open a case with several readers first.")
            return
        if self._decision is not None and self._decision in self._current.viewer.layers:
            self.say("There is a decision already; accept it, or remove its layer to begin anew.")
            return

        def add(made: LayerData) -> None:
            image = self._shown_image()
            if opened is not self._opened or image is None:
                self.say_failure("The case was closed meanwhile; open it again.")
                return
            self._start, self._decision = start, add_decision(made, image, self._current.viewer)
            self._layers.append(self._decision)
            self._current.choose_labels(self._decision)
            self.say("Correct it in Edit where readers disagree; then accept the decision here.")
            self._enable()

        if self.start_job(
            lambda _events, _cancel: begin_decision(opened, start), add, self.say_failure, kind=_BEGIN, anew=True
        ):
            self.say("Preparing the decision ...")

    def _shown_image(self) -> ImageLayer | None:
        """The open case's image; None if there is none, or the user has removed it."""
        return self._image if self._image in self._current.viewer.layers else None

    def accept(self) -> None:
        """Store the decision, in a thread."""
        opened, layer = self._opened, self._decision
        if opened is None or layer is None or layer not in self._current.viewer.layers:
            self.say_failure("Begin the decision first.")
            return
        shown, mark, start, reader = np.array(layer.data), _unsaved.mark(layer), self._start, reader_name() or None

        def done(entry: LedgerEntry) -> None:
            _unsaved.saved(layer, mark)
            who = entry.who or "somebody"
            said = f"Accepted as {entry.case}, decided by {who} between {len(entry.adjudicates)} readings."
            self.say(" ".join([said, *(finding.text for finding in entry.findings)]))
            signals().accepted.emit(str(opened.folder), bool(entry.findings))

        if self.start_job(
            lambda _events, _cancel: accept_decision(opened, shown, start, reader),
            done,
            self.say_failure,
            kind=_DECIDE,
            title="Accepting a decision",
        ):
            self.say("Accepting ...")

    def _put_away(self) -> None:
        """Remove the former case's layers from the viewer, unless one of them is unsaved."""
        layers = self._current.viewer.layers
        there = [layer for layer in self._layers if layer in layers]
        if not any(isinstance(layer, Labels) and _unsaved.is_unsaved(layer) for layer in there):
            for layer in reversed(there):
                layers.remove(layer)
        self._layers, self._image, self._decision = [], None, None

    def _enable(self) -> None:
        for button in (self.dispute_button, self.decide_button):
            button.setEnabled(self._opened is not None)
        self.accept_button.setEnabled(self._decision is not None)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        bind_in_window(self.window(), DISPUTE_KEY, self.next_dispute)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Collection", self.collection)
        form.addRow("Tolerance", self.tolerance)
        self.content.addLayout(form)
        self.cases.setMaximumHeight(180)
        self.content.addWidget(self.cases)
        self.content.addWidget(self.table)
        decided = QWidget()
        decided.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        begun = QFormLayout(decided)
        begun.setContentsMargins(0, 0, 0, 0)
        begun.addRow("Begin with", self.start)
        self.content.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.footer.addWidget(self.said)
        first, last = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.dispute_button)
        last.addWidget(self.decide_button)
        last.addWidget(self.accept_button)
        self.footer.addLayout(first)
        self.footer.addWidget(decided)  # not below the tables, which become lower where a message needs room
        self.footer.addLayout(last)


def _table(columns: tuple[str, ...], tip: str) -> QTableWidget:
    table = QTableWidget(0, len(columns))
    table.setHorizontalHeaderLabels(columns)
    table.setToolTip(tip)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    table.setMinimumHeight(110)
    return table


def _fill(table: QTableWidget, rows: Sequence[tuple[str, ...]]) -> None:
    table.setRowCount(len(rows))
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            cell = QTableWidgetItem(text)
            cell.setToolTip(text)
            table.setItem(row, column, cell)
