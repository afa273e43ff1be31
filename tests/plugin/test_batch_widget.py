"""The Batch widget in a real viewer, running the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from small_inputs import write_volume

from meduniseg_core.images import read_labels


@pytest.fixture
def widget(gui: Any) -> Any:
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Batch")
    found.model.setCurrentText("tiny")
    found.task.setCurrentText("vessel")
    return found


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    for number in range(2):
        write_volume(folder / f"scan{number}.nii.gz", seed=number)
    return folder


def texts(widget: Any) -> list[str]:
    lines: list[str] = widget.queue.lines()
    return lines


def test_a_folder_is_segmented_and_a_broken_case_named_and_skipped(
    gui: Any, widget: Any, qtbot: Any, cases: Path, tmp_path: Path
) -> None:
    (cases / "broken.nii.gz").write_bytes(b"nothing")
    widget.folder.setText(str(cases))
    widget.output.setText(str(tmp_path / "out"))
    widget.run_button.click()
    assert widget.busy
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    assert widget.said.text() == "2 results, 1 case failed."
    assert widget.progress.value() == widget.progress.maximum()
    assert "✗ broken" in [widget.queue.item(row, 0).text() for row in range(widget.queue.rowCount())]
    assert any(text.startswith("✗ broken broken.nii.gz ") for text in texts(widget))  # the name is not said twice
    assert [text.split(" (")[0] for text in texts(widget) if "✓" in text] == ["✓ scan0", "✓ scan1"]  # each once
    assert read_labels(tmp_path / "out" / "scan1.nii.gz").geometry.shape == (20, 36, 40)
    other = gui.add_image(np.zeros((20, 36, 40), np.float32), name="looked at before")
    done = next(widget.queue.item(row, 0) for row, text in enumerate(texts(widget)) if "scan1" in text)
    widget.queue.itemDoubleClicked.emit(done)
    assert list(gui.layers[-1].features["name"]) == ["background", "artery", "vein"]
    assert [layer.name for layer in gui.layers if layer.visible] == ["scan1.nii.gz", gui.layers[-1].name]
    assert not other.visible


def test_a_result_can_be_opened_while_the_others_run_and_stays_after_cancel(
    gui: Any, widget: Any, qtbot: Any, cases: Path, tmp_path: Path
) -> None:
    write_volume(cases / "scan2.nii.gz", (128, 192, 192))  # long enough to be stopped in the middle
    widget.folder.setText(str(cases))
    widget.output.setText(str(tmp_path / "out"))
    widget.tta.setChecked(True)
    widget.run()
    qtbot.waitUntil(lambda: len(texts(widget)) == 2, timeout=120_000)
    assert widget.busy and texts(widget)[0].startswith("✓ scan0 (vessel, ")
    widget.queue.itemDoubleClicked.emit(widget.queue.item(0, 0))
    assert list(gui.layers[-1].features["name"]) == ["background", "artery", "vein"]
    assert gui.layers[0].name.startswith("scan")
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.busy, timeout=60_000)
    assert "Cancelled" in widget.said.text()
    assert [text.split(" (")[0] for text in texts(widget) if "✓" in text] == ["✓ scan0", "✓ scan1"]
    assert not (tmp_path / "out" / "scan2.nii.gz").exists()


def test_cancel_ends_the_command(widget: Any, qtbot: Any, cases: Path, tmp_path: Path) -> None:
    widget.folder.setText(str(cases))
    widget.output.setText(str(tmp_path / "out"))
    widget.run()
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.busy, timeout=60_000)
    assert widget.run_button.isEnabled()
    assert not list((tmp_path / "out").glob("*.nii.gz")) if (tmp_path / "out").exists() else True


def test_a_missing_folder_is_said_and_the_command_can_be_copied(widget: Any, cases: Path) -> None:
    widget.folder.setText("nowhere")
    widget.run()
    assert "is not a folder" in widget.said.text() and not widget.busy
    widget.folder.setText(str(cases))
    widget.run()
    assert "results" in widget.said.text() and not widget.busy
    widget.output.setText("out folder")
    widget.copy_command()
    from qtpy.QtGui import QGuiApplication

    expected = f"meduniseg segment {cases} -o 'out folder' --task vessel --model tiny"
    assert QGuiApplication.clipboard().text() == expected


def test_a_result_that_was_corrected_since_is_kept_and_that_is_said(
    widget: Any, qtbot: Any, cases: Path, tmp_path: Path
) -> None:
    widget.folder.setText(str(cases))
    widget.output.setText(str(tmp_path / "out"))
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    record = tmp_path / "out" / "scan0.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "edited": True}))
    before = (tmp_path / "out" / "scan0.nii.gz").stat().st_mtime_ns
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    assert (tmp_path / "out" / "scan0.nii.gz").stat().st_mtime_ns == before
    assert any(text.startswith("! scan0: its result was edited") for text in texts(widget))
    assert [text.split(" (")[0] for text in texts(widget) if "✓" in text] == ["✓ scan1"]


def test_what_was_found_out_stands_with_its_case_and_can_be_sorted(widget: Any, qtbot: Any, tmp_path: Path) -> None:
    from qtpy.QtCore import Qt

    from meduniseg_core.images import Geometry, Image, write_image

    folder = tmp_path / "cases"
    folder.mkdir()
    write_volume(folder / "a_mr.nii.gz")
    hounsfield = np.random.default_rng(0).choice([-1000, 0, 60], size=(1, 20, 36, 40)).astype(np.int16)
    write_image(Image(hounsfield, Geometry((20, 36, 40), (2.0, 2.0, 2.0))), folder / "b_ct.nii.gz")
    write_volume(folder / "c_mr.nii.gz", seed=1)
    widget.folder.setText(str(folder))
    widget.output.setText(str(tmp_path / "out"))
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    said = "b_ct.nii.gz looks like CT: its values are Hounsfield units."
    assert [said in text for text in texts(widget)] == [False, True, False]  # in its own row, once
    widget.queue.sortItems(1, Qt.SortOrder.DescendingOrder)
    assert texts(widget)[0].startswith("✓ b_ct") and said in texts(widget)[0]
    assert json.loads((tmp_path / "out" / "b_ct.json").read_text())["warnings"][0]["text"] == said


def test_orientation_and_scale_are_options_where_the_task_can_take_them(
    widget: Any, qtbot: Any, cases: Path, tmp_path: Path
) -> None:
    widget.folder.setText(str(cases))
    widget.output.setText("out")
    shown = widget._form.isRowVisible
    assert shown(widget.orientation) and not shown(widget.scale)  # vessel: volumes in mm
    assert "--assume-orientation" not in widget.arguments()
    widget.orientation.setCurrentIndex(widget.orientation.findData("LAS"))
    assert widget.arguments()[-2:] == ["--assume-orientation", "LAS"]
    widget.orientation.setEditText("sideways")
    widget.run()
    assert "is not an orientation" in widget.said.text() and not widget.busy
    widget.task.choose("disc_cup")
    assert shown(widget.scale) and not shown(widget.orientation)
    widget.scale.setValue(2.5)
    assert widget.arguments()[-2:] == ["--scale", "2.5"]
    widget.task.setCurrentText("vessel")
    widget.orientation.setCurrentIndex(0)
    assert "--scale" not in widget.arguments()


def test_a_said_orientation_reaches_the_results(widget: Any, qtbot: Any, tmp_path: Path) -> None:
    import nibabel as nib

    folder = tmp_path / "cases"
    folder.mkdir()
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(40, 36, 20)).astype(np.float32), np.eye(4))
    image.header.set_xyzt_units("mm")
    image.set_sform(np.eye(4), 0)
    image.set_qform(np.eye(4), 0)
    image.to_filename(folder / "scan.nii.gz")
    widget.folder.setText(str(folder))
    widget.output.setText(str(tmp_path / "out"))
    widget.orientation.setCurrentIndex(widget.orientation.findData("RAS"))
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    warnings = json.loads((tmp_path / "out" / "scan.json").read_text())["warnings"]
    assert [entry["code"] for entry in warnings] == ["orientation_assumed"]


def test_of_a_case_with_several_frames_one_can_be_chosen(
    widget: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_meduniseg.widgets.batch as module

    folder = tmp_path / "cases"
    folder.mkdir()
    write_volume(folder / "scan.nii.gz")
    frames = np.random.default_rng(0).normal(size=(40, 36, 20, 6)).astype(np.float32)
    nib.Nifti1Image(frames, np.diag([2.0, 2, 2, 1])).to_filename(folder / "film.nii.gz")
    widget.folder.setText(str(folder))
    widget.output.setText(str(tmp_path / "out"))
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    assert widget.said.text() == "1 result, 1 case failed."
    (row,) = (row for row, text in enumerate(texts(widget)) if "holds 6 volumes" in text)
    text = texts(widget)[row]
    assert "holds 6 volumes" in text and text.endswith("Double click to choose.") and "--frame" not in text
    asked: list[list[str]] = []
    monkeypatch.setattr(module, "ask_which", lambda _text, titles, **_: asked.append(titles) or [])
    widget.queue.itemDoubleClicked.emit(widget.queue.item(row, 2))
    assert not widget.busy and len(asked[0]) == 6 and asked[0][3] == "frame 4 of 6"  # cancelled: nothing happens
    monkeypatch.setattr(module, "ask_which", lambda *_, **__: [3])
    widget.queue.itemDoubleClicked.emit(widget.queue.item(row, 2))
    qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)
    assert [text.split(" (")[0] for text in texts(widget) if "✓" in text] == ["✓ scan", "✓ film"]
    assert not any("Double click" in text for text in texts(widget))
    said = json.loads((tmp_path / "out" / "film.json").read_text())
    assert "film.nii.gz: frame 4 of 6 is read." in [warning["text"] for warning in said["warnings"]]
