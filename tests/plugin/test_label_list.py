"""Names and colours of classes, in and out, in the Edit panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from meduniseg_core.images.label_tables import LabelTable, read_label_table, write_label_table
from napari_meduniseg import _unsaved
from napari_meduniseg._editing import class_names_of
from napari_meduniseg._label_list import apply_list, prepared_list, prepared_writing
from napari_meduniseg.widgets.opening import open_panel
from napari_meduniseg.widgets.shortcut_sheet import show_sheet

LIST = LabelTable({1: "liver", 4: "spleen"}, {1: (200, 100, 50), 4: (0, 0, 255)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "organs.label"
    write_label_table(found, LIST)
    return found


def labels() -> np.ndarray:
    array = np.zeros((4, 10, 10), np.uint8)
    array[1, :3], array[2, 4:6], array[3, 8] = 1, 2, 3
    return array


def colour(layer: Any, label: int) -> list[int]:
    return [int(value) for value in np.rint(255 * layer.get_color(label)[:3])]


def test_a_list_names_and_colours_and_painted_classes_stay(path: Path) -> None:
    names = {"index": [0, 1, 2, 3, 9], "name": ["background", "organ", "vessel", "spleen", "nothing of it painted"]}
    layer = ViewerModel().add_labels(labels(), features=names)
    _unsaved.watch(layer)
    _unsaved.saved(layer)
    before = colour(layer, 2)
    apply_list(layer, prepared_list(layer, path)())
    assert class_names_of(layer) == {1: "liver", 2: "vessel", 4: "spleen"}  # 3 was called as 4 is now
    assert colour(layer, 1) == [200, 100, 50] and colour(layer, 4) == [0, 0, 255] and colour(layer, 2) == before
    assert _unsaved.is_unsaved(layer) and np.array_equal(layer.data, labels())


@pytest.mark.parametrize("name", ["out.txt", "out.tsv"])
def test_what_is_written_is_read_again(tmp_path: Path, path: Path, name: str) -> None:
    layer = ViewerModel().add_labels(labels())
    apply_list(layer, prepared_list(layer, path)())
    assert prepared_writing(layer, tmp_path / name)() == 4
    found = read_label_table(tmp_path / name)
    assert found.names == {1: "liver", 2: "class 2", 3: "class 3", 4: "spleen"}
    assert found.colours[1] == (200, 100, 50) and found.colours[2] == tuple(colour(layer, 2))


def test_in_the_panel(gui: Any, qtbot: Any, path: Path, tmp_path: Path) -> None:
    edit: Any = open_panel(gui, "Edit")
    edit.label_list.read(path)
    assert "no labels layer" in edit.said.text()
    layer = gui.add_labels(labels())
    edit.label_list.read(path)
    qtbot.waitUntil(lambda: "organs.label" in edit.said.text() and not edit.palette_table.busy, timeout=20_000)
    shown = [edit.palette_table.item(row, 0).text() for row in range(edit.palette_table.rowCount())]
    assert shown == ["liver", "spleen", "class 2", "class 3"]
    edit.label_list.read(Path(__file__))
    qtbot.waitUntil(lambda: "is not a list of labels" in edit.said.text(), timeout=20_000)
    assert class_names_of(layer)[1] == "liver"
    edit.label_list.write(tmp_path / "again.txt")
    qtbot.waitUntil(lambda: (tmp_path / "again.txt").is_file() and "4 classes" in edit.said.text(), timeout=20_000)
    sheet = show_sheet(edit.window())
    qtbot.addWidget(sheet)
    keys = [sheet.table.item(row, 0).text() for row in range(sheet.table.rowCount())]
    assert {"Shift+O", "Shift+L"} <= set(keys)
