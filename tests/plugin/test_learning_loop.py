"""The loop that the product is for: segment, edit, accept, learn, compare, adopt, segment again."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget
from small_inputs import save_tiny_model

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import Geometry, Image, read_image, write_image
from meduniseg_core.weights import PackRegistry, Registry
from napari_meduniseg.widgets.in_use_line import IN_USE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of the test's own, with the model ``tiny``."""
    folder = tmp_path / "home"
    Registry(folder / "models").import_file(save_tiny_model(tmp_path / "tiny.safetensors"))
    monkeypatch.setenv("MEDUNISEG_HOME", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


@pytest.fixture
def viewer(gui_screen: None, home: Path, make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def write_ball(path: Path, seed: int) -> tuple[Path, np.ndarray]:
    """A bright ball in noise; the file and where the ball is."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:16, :32, :32]
    centre = rng.uniform((6, 12, 12), (10, 20, 20))
    ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 25
    array = (rng.normal(size=ball.shape) + 6 * ball).astype(np.float32)[None]
    write_image(Image(array, Geometry(ball.shape, (2.0, 2.0, 2.0))), path)
    return path, ball


def accept_balls(home: Path, folder: Path) -> None:
    """Three corrections of the task organ."""
    ledger = Ledger.create(home / "corrections" / "organ", task="organ", modality="mri", classes=["liver"],
                           channels=["MRI"])  # fmt: skip
    for number in range(3):
        path, ball = write_ball(folder / f"case{number}.nii.gz", number)
        image = read_image(path)
        ledger.accept(image, image.with_array(ball[None].astype(np.uint8)))


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-meduniseg", name)[1]


def test_segment_edit_accept_learn_compare_adopt_and_segment_again(
    viewer: Any, home: Path, qtbot: Any, tmp_path: Path
) -> None:
    panel = dock(viewer, "Segment")
    panel.form.choose(model="tiny", modality="mri")
    viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit", tabify=True)
    edit = next(w for w in viewer.window._qt_window.findChildren(QWidget) if type(w).__name__ == "EditWidget")
    for number in range(4):
        path, ball = write_ball(tmp_path / f"case{number}.nii.gz", number)
        viewer.layers.clear()
        viewer.open(str(path), plugin="napari-meduniseg")
        panel.form.choose(modality="mri", tasks=("organ",))
        panel.run()
        qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
        labels = viewer.layers[-1]
        panel.result_actions.correct_button.click()
        qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=30_000)
        assert edit.layer_box.layer() is labels
        predicted = np.asarray(labels.data).copy()
        # as a brush does: the ball becomes liver, the rest background
        axes = np.nonzero(predicted != ball)
        labels.data_setitem(axes, ball.astype(predicted.dtype)[axes])
        edit.accepting.patient.setText(f"patient {number}")
        edit.accepting.button.click()
        qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=30_000)
        assert edit.accepting.said.text().startswith(f"Accepted as case{number}"), edit.accepting.said.text()
        qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=30_000)
    ledger = Ledger.open(home / "corrections" / "organ")
    entries = ledger.cases()
    assert [name.split("-")[0] for name in entries] == [f"case{number}" for number in range(4)]
    assert ledger.classes == ("liver",)
    entry = next(entry for name, entry in entries.items() if name.startswith("case3"))
    assert entry.model is not None and entry.model.name == "tiny" and entry.patient == "patient 3"
    change = entry.classes[0]
    assert change.added == int((np.asarray(ball) & (predicted != 1)).sum()) and change.corrected == int(ball.sum())
    assert set(ledger.split().values()) == {"training", "validation"}
    assert "organ: " in edit.accepting.collection.currentText()

    learn = dock(viewer, "Learn")
    qtbot.waitUntil(lambda: learn.found is not None and not learn.busy and not learn.cases.busy, timeout=30_000)
    assert learn.cases.rowCount() == 4 and not learn.cases.item(0, 0).icon().isNull()
    assert learn.base.currentData() == "tiny" and learn.name.text() == "organ-1"
    learn.budget.setItemData(0, replace(learn.budget.itemData(0), iterations=300, quick=False))
    learn.device.setCurrentText("cpu")
    learn.start_button.click()
    assert learn.said.text() == "" and learn.run_box.currentText().startswith("organ-1")
    qtbot.waitUntil(lambda: learn.gate_view.isVisibleTo(learn), timeout=240_000)
    report = json.loads((home / "runs" / "organ-1" / "gate" / "gate.json").read_text())
    assert report["dice_before"] is not None and report["verdict"] == "better", report["reason"]
    assert (
        learn.gate_view.heading.text() == "Better than before" and "mean dice" in learn.gate_view.reason.text().lower()
    )
    assert learn.gate_view.pictures.count() == 2 * len(report["pairs"])
    assert len(learn.run_view.loss.listDataItems()) == 1
    learn.gate_view.adopt_button.click()
    qtbot.waitUntil(lambda: not learn.gate_view.busy, timeout=60_000)
    assert "organ-1 is adopted for organ" in learn.gate_view.said.text()
    assert (
        panel.form.model.currentData() == IN_USE
    )  # not the adopted model alone: other tasks stay with the shipped one

    path, ball = write_ball(tmp_path / "new.nii.gz", 99)
    viewer.layers.clear()
    viewer.open(str(path), plugin="napari-meduniseg")
    panel.form.choose(model="tiny", modality="mri", tasks=("organ",))
    line = panel.form.in_use
    assert "organ-1 was adopted for organ" in line.text()
    line.linkActivated.emit("#in_use")
    assert panel.form.choice().by_model() == {"organ-1": ["organ"]}
    assert (
        "organ-1 is used for organ: it was adopted" in line.text() and "starter" not in line.text()
    )  # has no such task
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    labels = viewer.layers[-1]
    assert labels.metadata["meduniseg"]["provenance"]["model"] == "organ-1"
    overlap = 2 * ((labels.data == 1) & ball).sum() / ((labels.data == 1).sum() + ball.sum())
    assert overlap > 0.5, overlap

    learn.gate_view.back_button.click()
    qtbot.waitUntil(lambda: not learn.gate_view.busy, timeout=60_000)
    assert panel.form.model.currentData() == "tiny" and "out of use" in learn.gate_view.said.text()
    assert not learn.gate_view.back_button.isEnabled() and learn.gate_view.adopt_button.isEnabled()


def test_a_training_outlives_the_viewer_and_is_offered_again(
    viewer: Any, home: Path, qtbot: Any, tmp_path: Path
) -> None:
    accept_balls(home, tmp_path)
    learn = dock(viewer, "Learn")
    qtbot.waitUntil(lambda: learn.found is not None and not learn.busy and not learn.cases.busy, timeout=30_000)
    first = learn.found.rows[0].case
    learn.cases.set_ticked(first, False)
    assert learn.cases.left_out() == (first,)
    learn.cases.set_ticked(first, True)
    learn.base.setCurrentIndex(learn.base.findData("tiny"))
    learn.budget.setItemData(0, replace(learn.budget.itemData(0), iterations=5000, quick=False))
    learn.device.setCurrentText("cpu")
    learn.start_button.click()
    run = learn.run_box.currentData()
    try:
        qtbot.waitUntil(lambda: run.has_checkpoint, timeout=120_000)
        process = run.process()
        assert process is not None and os.getsid(process.pid) != os.getsid(0)  # nothing of ours takes it along
        learn.close()
        again = dock(viewer, "Learn")
        assert again.run_box.currentData().job.name == run.job.name
        assert again.run_view.pause_button.text() == "Pause"
        again.run_view.pause_button.click()
        qtbot.waitUntil(lambda: not again.run_view.busy, timeout=60_000)
        assert run.process() is None and again.run_view.pause_button.text() == "Resume"
        assert "Paused" in again.run_view.state.text()
        epochs = len(run.log())
        again.run_view.pause_button.click()
        qtbot.waitUntil(lambda: not again.run_view.busy and len(run.log()) > epochs, timeout=120_000)
        again.run_view.stop_button.click()
        qtbot.waitUntil(lambda: again.gate_view.isVisibleTo(again), timeout=120_000)
        assert run.model_file.is_file() and len(run.log()) < 100
        again.gate_view.keep()
        qtbot.waitUntil(lambda: not again.gate_view.busy, timeout=60_000)
        assert run.decision() == "candidate"
        again.gate_view.discard()
        qtbot.waitUntil(lambda: not again.gate_view.busy, timeout=60_000)
        assert not run.folder.exists() and again.run_box.count() == 0
    finally:
        process = run.process()
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)


def test_a_refinement_is_adopted_as_a_pack_and_the_base_stays_chosen(
    viewer: Any, home: Path, qtbot: Any, tmp_path: Path
) -> None:
    accept_balls(home, tmp_path)
    panel, learn = dock(viewer, "Segment"), dock(viewer, "Learn")
    qtbot.waitUntil(lambda: learn.found is not None and not learn.busy and not learn.cases.busy, timeout=30_000)
    learn.base.setCurrentIndex(learn.base.findData("tiny"))
    learn.method.setCurrentIndex(learn.method.findData("refine"))
    learn.budget.setItemData(0, replace(learn.budget.itemData(0), iterations=50))
    learn.device.setCurrentText("cpu")
    learn.start_button.click()
    qtbot.waitUntil(lambda: learn.gate_view.isVisibleTo(learn), timeout=240_000)
    assert "organ only" in learn.gate_view.notes.text()
    assert PackRegistry().list() == ()
    learn.gate_view.adopt(anyway=True)
    qtbot.waitUntil(lambda: not learn.gate_view.busy, timeout=60_000)
    assert PackRegistry().in_use_for("organ-1") == ("organ",)
    assert panel.form.model.currentData() == "tiny"

    path, _ = write_ball(tmp_path / "new.nii.gz", 99)
    viewer.open(str(path), plugin="napari-meduniseg")
    found = []
    for task in ("organ", "vessel"):
        panel.form.choose(model="tiny", modality="mri", tasks=(task,))
        panel.run()
        qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
        found.append(viewer.layers[-1].metadata["meduniseg"]["provenance"]["pack"])
    assert found == ["organ-1", None]
    panel.form.choose(model="tiny", modality="mri", tasks=("organ",))
    line = panel.form.in_use
    assert "The pack organ-1 is used for organ" in line.text()
    line.linkActivated.emit("#packs")
    assert "left out" in line.text()
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    assert viewer.layers[-1].metadata["meduniseg"]["provenance"]["pack"] is None
    line.linkActivated.emit("#packs")
    learn.gate_view.back_button.click()
    qtbot.waitUntil(lambda: not learn.gate_view.busy, timeout=60_000)
    assert PackRegistry().in_use_for("organ-1") == () and "tiny is used again" in learn.gate_view.said.text()

    models = dock(viewer, "Models")
    models.refresh("organ-1")
    assert "A pack for the model tiny; it changes organ" in models.details.toPlainText()
    models.use_button.click()
    qtbot.waitUntil(lambda: not models.busy, timeout=30_000)
    assert PackRegistry().in_use_for("organ-1") == ("organ",) and models.use_button.text() == "Do not use"
    models.use_button.click()
    qtbot.waitUntil(lambda: not models.busy, timeout=30_000)
    assert PackRegistry().in_use_for("organ-1") == ()
    models.remove()
    assert PackRegistry().list() == () and "Removed organ-1" in models.said.text()
    models.install(home / "runs" / "organ-1" / "run" / "organ-1.safetensors")
    qtbot.waitUntil(lambda: not models.busy, timeout=30_000)
    assert models.chosen() == "organ-1" and [entry.name for entry in PackRegistry().list()] == ["organ-1"]


def test_what_cannot_be_accepted_or_trained_is_said(viewer: Any, home: Path, qtbot: Any) -> None:
    edit = dock(viewer, "Edit")
    qtbot.waitUntil(lambda: not edit.accepting.busy, timeout=30_000)
    assert not edit.accepting.button.isEnabled()
    image = viewer.add_image(np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32), name="mr")
    labels = viewer.add_labels(np.zeros((8, 20, 20), np.uint8), name="drawn")
    accepting = edit.accepting
    accepting.button.click()
    assert "cannot be a task's name" in accepting.said.text()
    accepting.task.setText("My lesion")
    accepting.modality.setCurrentIndex(accepting.modality.findData("mri"))
    accepting.button.click()
    assert "has no name" in accepting.said.text()
    edit.add_class("lesion")
    assert labels.selected_label == 1 and labels.mode == "paint"
    edit.add_class("lesion")
    assert "there is one of that name" in edit.said.text()
    labels.paint((4, 8, 8), 1)
    viewer.layers.remove(image)
    accepting.button.click()
    qtbot.waitUntil(lambda: not accepting.busy, timeout=30_000)
    assert "choose it under 'Image'" in accepting.said.text()
    viewer.add_image(np.zeros((8, 20, 21), np.float32), name="other grid")
    edit.image_box.set_layer(viewer.layers[-1])
    # another grid: the labels are none of this image, so there is nothing to accept, and what was said of them is gone
    assert not accepting.button.isEnabled() and accepting.said.text() == ""
    assert not (home / "corrections" / "my_lesion" / "labelsTr").exists()
    viewer.layers.pop()
    viewer.add_image(np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32), name="right")
    edit.layer_box.set_layer(labels)
    edit.image_box.set_layer(
        viewer.layers[-1]
    )  # said by hand: labels whose image was closed are given to no other by themselves
    accepting.task.setText("My lesion")  # labels of no image were no current ones: what was written went with them
    accepting.modality.setCurrentIndex(accepting.modality.findData("mri"))
    accepting.button.click()
    qtbot.waitUntil(lambda: not accepting.busy, timeout=30_000)
    assert "for training" in accepting.said.text(), accepting.said.text()
    ledger = Ledger.open(home / "corrections" / "my_lesion")
    assert ledger.classes == ("lesion",) and ledger.dataset.modality == "mri"
    features = {"index": [0, 1], "name": ["background", "cyst"]}
    other = viewer.add_labels(np.ones((8, 20, 20), np.uint8), name="other", features=features)
    edit.layer_box.set_layer(other)
    accepting.collection.setCurrentIndex(0)
    accepting.button.click()
    qtbot.waitUntil(lambda: not accepting.busy, timeout=30_000)
    assert "classes are lesion, in this order, not cyst" in accepting.said.text()
    learn = dock(viewer, "Learn")
    qtbot.waitUntil(lambda: learn.found is not None and not learn.busy, timeout=30_000)
    learn.name.setText("TINY")
    learn.start()
    assert "There is a model called 'tiny'" in learn.said.text()
    learn.name.setText("a b")
    learn.start()
    assert "letters" in learn.said.text() and not (home / "runs").exists()
