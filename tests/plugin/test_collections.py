"""A collection in another folder is chosen once and offered in every panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog
from small_inputs import write_volume

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import read_image
from napari_meduniseg._collections import collections
from napari_meduniseg.widgets.collection_combo import CollectionCombo
from napari_meduniseg.widgets.opening import open_panel

WAIT = 60_000


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    ledger = Ledger.create(tmp_path / "shared", task="organ", modality="mri", classes=("liver",), channels=("MR",))
    image = read_image(write_volume(tmp_path / "scan.nii.gz", (4, 12, 12)))
    ledger.accept(image, image.with_array(np.ones((1, 4, 12, 12), np.uint8)))
    return ledger.folder


def folders(combo: CollectionCombo) -> list[Path]:
    return [entry.folder for entry in combo.known()]


def test_a_folder_chosen_in_one_panel_is_listed_in_all(gui: Any, qtbot: Any, elsewhere: Path) -> None:
    edit, readers = open_panel(gui, "Edit"), open_panel(gui, "Readers")
    combos: list[CollectionCombo] = [edit.accepting.collection, readers.collection]
    qtbot.waitUntil(lambda: not any(combo.busy for combo in combos), timeout=WAIT)
    before = edit.accepting.collection.currentText()
    assert not any(elsewhere in folders(combo) for combo in combos)
    readers.collection.choose_folder(elsewhere)
    qtbot.waitUntil(lambda: all(elsewhere in folders(combo) for combo in combos), timeout=WAIT)
    assert readers.collection.current().folder == elsewhere and edit.accepting.collection.currentText() == before
    learn = open_panel(gui, "Learn")  # opened later
    qtbot.waitUntil(lambda: not learn.busy and elsewhere in folders(learn.data), timeout=WAIT)
    assert elsewhere in [one.folder for one in collections()]


def test_what_is_no_collection_leaves_the_choice_as_it_was(
    gui: Any, qtbot: Any, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: Any = open_panel(gui, "Readers")
    combo: CollectionCombo = readers.collection
    combo.choose_folder(elsewhere)
    qtbot.waitUntil(lambda: not readers.busy and combo.current() is not None, timeout=WAIT)
    for answer, said in (("", ""), (str(tmp_path), "There is no corrections ledger")):
        readers.say("")
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, answer=answer: answer)
        combo.setCurrentIndex(combo.count() - 1)
        combo.activated.emit(combo.count() - 1)
        qtbot.waitUntil(lambda: not readers.busy, timeout=WAIT)
        chosen = combo.current()
        assert chosen is not None and chosen.folder == elsewhere
        assert readers.said.text().startswith(said)


def test_learn_takes_a_data_set_too_and_keeps_it_in_its_list(gui: Any, qtbot: Any, elsewhere: Path) -> None:
    (elsewhere / "ledger.jsonl").unlink()  # what is left is nnU-Net's raw layout
    learn: Any = open_panel(gui, "Learn")
    qtbot.waitUntil(lambda: not learn.busy, timeout=WAIT)
    learn.choose_data(elsewhere)
    qtbot.waitUntil(lambda: learn.found is not None and learn.found.folder == elsewhere, timeout=WAIT)
    assert learn.data.currentText() == elsewhere.name
    learn.data.refresh()
    qtbot.waitUntil(lambda: not learn.busy, timeout=WAIT)
    assert learn.data.currentText() == elsewhere.name and elsewhere not in [one.folder for one in collections()]
