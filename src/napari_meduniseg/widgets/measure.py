"""The Measure widget: distances and areas, drawn with napari's own tools, listed and copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import napari
from napari.layers import Shapes
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)

from meduniseg_core.files import write_text
from meduniseg_core.images.measuring import measurements_csv
from napari_meduniseg._current import current_of
from napari_meduniseg._measuring import Measured, add_measurements, measure_shapes, measurements_of, show_values
from napari_meduniseg._views import show_place
from napari_meduniseg.widgets.layer_combo import image_combo
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.shortcut_sheet import list_keys
from napari_meduniseg.widgets.window_key import bind_in_window

DISTANCE_KEY, AREA_KEY = "F6", "F7"
_COLUMNS = ("", "length", "area", "where")

Tool = Literal["add_line", "add_polygon", "add_ellipse"]


class MeasureWidget(Panel):
    """Draws on a layer of the current image and lists what the shapes measure. Every image has its own list."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._layer: Shapes | None = None
        self._rows: list[Measured] = []
        self.image_box = image_combo(self._current)
        self.image_box.setToolTip("The image to measure in; every image has its own measurements.")
        self.distance_button = QPushButton(f"Distance ({DISTANCE_KEY})")
        self.distance_button.setToolTip(
            "Drag a line in the viewer. In mm where the image has a size, else in pixels. The same key ends it."
        )
        self.area_button = QPushButton(f"Area ({AREA_KEY})")
        self.area_button.setToolTip(
            "Click around a region in the viewer; a double click closes the outline. The same key ends it."
        )
        self.ellipse_button = QPushButton("Ellipse")
        self.ellipse_button.setToolTip("Drag an ellipse in the viewer, from corner to corner of the box around it.")
        self.tools: dict[Tool, QPushButton] = {
            "add_line": self.distance_button,
            "add_polygon": self.area_button,
            "add_ellipse": self.ellipse_button,
        }
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setToolTip(
            "All measurements; the length of an area is its outline's. A double click shows the slice."
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.remove_button, self.clear_button = QPushButton("Remove"), QPushButton("Remove all")
        self.remove_button.setToolTip("Remove the measurements that are chosen in the table.")
        self.clear_button.setToolTip("Remove all measurements of this image.")
        self.copy_button, self.export_button = QPushButton("Copy"), QPushButton("Export CSV ...")
        self.copy_button.setToolTip("Copy the chosen measurements, or all of them, to be pasted elsewhere.")
        self.export_button.setToolTip("Save all measurements of this image, with all digits.")
        self._lay_out()
        for tool, button in self.tools.items():
            button.setCheckable(True)
            button.clicked.connect(lambda _on, tool=tool: self.take(tool))
        self.table.itemDoubleClicked.connect(lambda item: self._go_to(item.row()))
        self.remove_button.clicked.connect(self.remove)
        self.clear_button.clicked.connect(self.clear)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._ask_and_export)
        self._current.events.changed.connect(self._follow)
        layers = self._current.viewer.layers
        layers.events.inserted.connect(self._follow)
        layers.events.removed.connect(self._follow)
        layers.selection.events.active.connect(self._show_tool)
        list_keys([(DISTANCE_KEY, "Measure a distance"), (AREA_KEY, "Measure an area")])
        self._follow()

    # -- drawing ------------------------------------------------------------------------------------------------

    def take(self, tool: Tool) -> None:
        """Draw with a tool from now on; where it is in hand already, put it down."""
        viewer, image = self._current.viewer, self._current.image
        if image is None:
            self._show_tool()
            self.say_failure("There is no image to measure in; open one.")
            return
        if self._in_hand() == tool:
            self.put_down()
            return
        if viewer.dims.ndisplay == 3:
            self._show_tool()
            self.say_failure("Measurements are drawn on slices; press Axial, Coronal or Sagittal in Segment first.")
            return
        layer = measurements_of(image, viewer) or add_measurements(image, viewer)
        self._watch(layer)
        layer.visible = True
        viewer.layers.selection.active = layer
        layer.mode = tool
        self._show_tool()
        said = {
            "add_line": "Drag a line in the viewer.",
            "add_polygon": "Click around the region; a double click closes the outline.",
            "add_ellipse": "Drag an ellipse in the viewer.",
        }
        self.say(said[tool])

    def put_down(self) -> None:
        """Stop drawing; the labels are active again."""
        if self._layer is not None:
            self._layer.mode = "pan_zoom"
        again = self._current.labels or self._current.image
        if again is not None:
            self._current.viewer.layers.selection.active = again
        self._show_tool()
        self.say("")

    def measure_distance(self) -> None:
        """The key of *Distance*."""
        self.take("add_line")

    def measure_area(self) -> None:
        """The key of *Area*."""
        self.take("add_polygon")

    def _in_hand(self) -> str:
        active = self._current.viewer.layers.selection.active
        return str(self._layer.mode) if self._layer is not None and active is self._layer else ""

    def _show_tool(self, _event: Any = None) -> None:
        now = self._in_hand()
        for tool, button in self.tools.items():
            button.setChecked(tool == now)

    # -- the list -----------------------------------------------------------------------------------------------

    def _follow(self, _event: Any = None) -> None:
        """Show the measurements of the image that is looked at."""
        image = self._current.image
        self._watch(None if image is None else measurements_of(image, self._current.viewer))

    def _watch(self, layer: Shapes | None) -> None:
        if layer is not self._layer:
            if self._layer is not None:
                self._layer.events.data.disconnect(self._drawn)
                self._layer.events.mode.disconnect(self._show_tool)
            self._layer = layer
            if layer is not None:
                layer.events.data.connect(self._drawn)
                layer.events.mode.connect(self._show_tool)
            self.say("")
            self._measure()
        self._show_tool()

    def _drawn(self, event: Any) -> None:
        if str(getattr(event, "action", "changed")) not in ("adding", "changing", "removing"):
            self._measure()
            if self._rows:
                self.say(self._rows[-1].fault or f"{self._rows[-1].text}.", bool(self._rows[-1].fault))

    def _measure(self) -> None:
        layer = self._layer
        self._rows = [] if layer is None else measure_shapes(layer)
        if layer is not None and self._rows:
            show_values(layer, self._rows)
        self.table.setRowCount(len(self._rows))
        for row, cells in enumerate(self._cells()):
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(self._rows[row].fault)
                self.table.setItem(row, column, item)
        for button in (self.remove_button, self.clear_button, self.copy_button, self.export_button):
            button.setEnabled(bool(self._rows))

    def _cells(self) -> list[tuple[str, ...]]:
        cells: list[tuple[str, ...]] = []
        for number, row in enumerate(self._rows, start=1):
            length = "" if row.found is None else f"{row.found.length:,.1f} {row.found.unit}"
            area = "" if row.found is not None and row.found.area is None else row.text
            cells.append((str(number), length, area, row.where))
        return cells

    def _chosen(self) -> list[int]:
        return sorted({index.row() for index in self.table.selectedIndexes()})

    def remove(self) -> None:
        """Remove the chosen measurements."""
        chosen = self._chosen()
        if self._layer is None or not chosen:
            self.say_failure("Choose measurements in the table first.")
            return
        self._remove(set(chosen))

    def clear(self) -> None:
        """Remove all measurements of this image."""
        if self._layer is not None:
            self._remove(set(range(len(self._rows))))

    def _remove(self, rows: set[int]) -> None:
        assert self._layer is not None
        self._layer.selected_data = rows
        self._layer.remove_selected()
        self._measure()
        self.say(f"{len(rows)} removed.")

    def text(self) -> str:
        """The chosen measurements, or all, tab separated with a header."""
        cells = self._cells()
        wanted = self._chosen() or range(len(cells))
        return "\n".join("\t".join(line) for line in (("number", *_COLUMNS[1:]), *(cells[row] for row in wanted)))

    def copy(self) -> None:
        """Put the chosen measurements, or all, on the clipboard."""
        QGuiApplication.clipboard().setText(self.text())
        count = len(self._chosen()) or len(self._rows)
        self.say(f"{count} measurement{'' if count == 1 else 's'} copied.")

    def export(self, path: Path) -> None:
        """Write all measurements of this image as CSV."""
        image = self._current.image
        rows = [(row.where, row.found) for row in self._rows if row.found is not None]
        with self.saying_failures():
            write_text(path, measurements_csv("" if image is None else image.name, rows))
            self.say(f"Saved {path.name}.")

    def _ask_and_export(self) -> None:
        image = self._current.image
        proposed = "measurements.csv" if image is None else f"{image.name.split('.')[0]}_measurements.csv"
        name, _ = QFileDialog.getSaveFileName(self, "Save the measurements", proposed, "CSV (*.csv)")
        if name:
            self.export(Path(name))

    def _go_to(self, row: int) -> None:
        """Show the slice of a measurement."""
        viewer, layer = self._current.viewer, self._layer
        if layer is None or layer.ndim < 3:
            return
        show_place(viewer, layer.data_to_world(self._rows[row].centre))

    # -- the rest -----------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        bind_in_window(self.window(), DISTANCE_KEY, self.measure_distance)
        bind_in_window(self.window(), AREA_KEY, self.measure_area)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Image", self.image_box)
        self.content.addLayout(form)
        tools = QGridLayout()
        for column, button in enumerate(self.tools.values()):
            tools.addWidget(button, 0, column)
        self.content.addLayout(tools)
        self.content.addWidget(self.table)
        self.content.setAlignment(Qt.AlignmentFlag.AlignTop)
        rows = QGridLayout()
        for place, button in enumerate((self.copy_button, self.export_button, self.remove_button, self.clear_button)):
            rows.addWidget(button, 0, place)
        self.footer.addWidget(self.said)
        self.footer.addLayout(rows)
