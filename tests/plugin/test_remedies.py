"""What a finding asks for is offered beside it: orientation, scale, our own reader; said of one image only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage
from small_inputs import write_photograph, write_volume

from meduniseg_core.images import Finding

SLOW = 60_000


@pytest.fixture
def widget(gui: Any) -> Any:
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    found.form.choose(model="tiny")
    found.form.compute.precision.value = "fp32"
    return found


def opened(gui: Any, path: Path, plugin: str = "napari-meduniseg") -> Any:
    (layer,) = gui.open(str(path), plugin=plugin)
    return layer


def without_orientation(path: Path) -> Path:
    """A volume whose NIfTI codes are both 0."""
    array = np.random.default_rng(0).normal(size=(40, 36, 20)).astype(np.float32)
    image = nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    image.set_sform(np.eye(4), 0)
    image.set_qform(np.eye(4), 0)
    image.to_filename(path)
    return path


def phone_photo(path: Path, orientation: int, shape: tuple[int, int] = (60, 80)) -> tuple[Path, np.ndarray]:
    """A JPEG that is stored turned; the picture as viewers show it, smooth and without any symmetry."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    upright = np.stack([3 * rows, 2 * columns, rows + columns], axis=-1).clip(0, 255).astype(np.uint8)
    back = {3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, 1), 8: lambda a: np.rot90(a, -1)}[orientation]
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    PillowImage.fromarray(np.ascontiguousarray(back(upright))).save(path, quality=98, exif=exif)
    return path, upright


def shows(widget: Any, field: Any) -> bool:
    return not widget.remedies.isHidden() and bool(widget.remedies._form.isRowVisible(field))


def test_an_orientation_is_said_beside_the_finding_and_belongs_to_that_image_alone(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    other = opened(gui, write_volume(tmp_path / "other.nii.gz"))
    image = opened(gui, without_orientation(tmp_path / "scan.nii.gz"))
    widget.form.choose(modality="mri", tasks=("organ",))
    remedies = widget.remedies
    qtbot.waitUntil(lambda: "left and right may be swapped" in widget.warning.text(), timeout=SLOW)
    assert shows(widget, remedies.orientation) and not shows(widget, remedies._scale_row)
    assert "--" not in widget.warning.text()  # a window has no options
    remedies.orientation.setCurrentIndex(remedies.orientation.findData("LPS"))
    remedies.orientation.activated.emit(remedies.orientation.currentIndex())
    qtbot.waitUntil(lambda: "LPS was assumed" in widget.note.text(), timeout=SLOW)
    assert widget.warning.isHidden() and shows(widget, remedies.orientation)  # it can be taken back

    widget.form.image.set_layer(other)
    qtbot.waitUntil(lambda: widget.remedies.isHidden(), timeout=SLOW)
    assert widget._choice().said.orientation is None
    widget.form.image.set_layer(image)
    qtbot.waitUntil(lambda: shows(widget, remedies.orientation), timeout=SLOW)
    assert remedies.orientation.code() == "LPS" and widget._choice().said.orientation == "LPS"
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=SLOW)
    (record,) = [layer.metadata["meduniseg"] for layer in gui.layers if "organ" in layer.name]
    assert [entry["code"] for entry in record["provenance"]["warnings"]] == ["orientation_assumed"]


def test_what_is_typed_is_taken_and_what_is_no_orientation_is_said(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    opened(gui, without_orientation(tmp_path / "scan.nii.gz"))
    widget.form.choose(modality="mri", tasks=("organ",))
    box = widget.remedies.orientation
    qtbot.waitUntil(lambda: shows(widget, box), timeout=SLOW)
    box.setEditText("RAL")
    box.lineEdit().editingFinished.emit()
    assert "'RAL' is not an orientation" in widget.said.text() and widget._choice().said.orientation is None
    box.setEditText("pir")
    box.lineEdit().editingFinished.emit()
    assert widget._choice().said.orientation == "PIR"
    qtbot.waitUntil(lambda: "PIR was assumed" in widget.note.text(), timeout=SLOW)


def test_a_task_with_sides_says_before_run_that_it_needs_the_orientation(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    opened(gui, without_orientation(tmp_path / "scan.nii.gz"))
    widget.form.choose(model="starter", modality="ct")
    widget.form.choose(tasks=("head_neck_organs",))
    qtbot.waitUntil(lambda: "has classes that differ by side" in widget.warning.text(), timeout=SLOW)
    assert "give its orientation, or store it" in widget.warning.text()
    assert widget.warning.text().count("does not say") == 1 and shows(widget, widget.remedies.orientation)


def test_a_scale_is_proposed_beside_the_finding_and_reaches_the_core(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meduniseg_core.inference import Predictor

    asked: list[float] = []
    monkeypatch.setattr(Predictor, "segment", lambda _self, _image, _tasks, **how: asked.append(how["scale"]) or {})
    opened(gui, write_photograph(tmp_path / "slide.png", 1600, 1600))
    widget.form.choose(model="starter", modality="pathology")
    widget.form.choose(tasks=("gland",))
    remedies = widget.remedies
    qtbot.waitUntil(lambda: "1600 pixels long" in widget.warning.text(), timeout=SLOW)
    assert "--" not in widget.warning.text() and shows(widget, remedies._scale_row)
    assert remedies.fitting.text() == "Use 4.2"
    remedies.fitting.click()
    qtbot.waitUntil(lambda: "pixels long" not in widget.warning.text(), timeout=SLOW)
    assert shows(widget, remedies._scale_row) and remedies.scale.value() == 4.2
    widget.run()
    qtbot.waitUntil(lambda: bool(asked), timeout=SLOW)
    assert asked == [4.2]


def test_what_a_reader_found_out_is_shown_when_the_image_is_opened_whatever_is_ticked(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    path, upright = phone_photo(tmp_path / "phone.jpg", 6)
    layer = opened(gui, path)
    assert layer.data.shape == upright.shape  # our reader turns it
    widget.form.choose(modality="mri")  # no task fits
    qtbot.waitUntil(lambda: "is stored turned (EXIF orientation 6)" in widget.note.text(), timeout=SLOW)
    assert widget.warning.isHidden()  # nothing is wrong with it
    opened(gui, without_orientation(tmp_path / "scan.nii.gz"))
    qtbot.waitUntil(lambda: "does not say how it lies" in widget.warning.text(), timeout=SLOW)
    assert widget.note.isHidden()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photograph_that_another_reader_left_turned_says_so_and_is_opened_upright(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, orientation: int
) -> None:
    path, upright = phone_photo(tmp_path / "phone.jpg", orientation)
    layer = opened(gui, path, "napari")
    widget.form.choose(modality="fundus", tasks=("disc_cup",))
    qtbot.waitUntil(lambda: "shows it so" in widget.warning.text(), timeout=SLOW)
    assert shows(widget, widget.remedies.reopen_button)
    widget.run()
    qtbot.waitUntil(lambda: not widget.busy, timeout=SLOW)
    warnings = gui.layers[-1].metadata["meduniseg"]["provenance"]["warnings"]
    assert "opened_elsewhere" in [entry["code"] for entry in warnings]  # in the JSON, too
    widget.remedies.reopen_button.click()
    qtbot.waitUntil(lambda: widget.form.image.layer() is not layer, timeout=SLOW)
    assert widget.form.image.layer().data.shape == upright.shape and not layer.visible
    np.testing.assert_allclose(widget.form.image.layer().data.astype(int), upright.astype(int), atol=12)
    qtbot.waitUntil(lambda: "shows it so" not in widget.warning.text(), timeout=SLOW)


def test_pictures_that_another_reader_shows_upright_or_that_are_not_turned_are_no_finding(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    from napari_meduniseg._foreign import left_out
    from napari_meduniseg._layer_input import snapshot_layers

    path, upright = phone_photo(tmp_path / "phone.jpg", 3)
    layer = opened(gui, path, "napari")
    assert [finding.code for finding in left_out(snapshot_layers([layer]))] == ["opened_elsewhere"]
    layer.data = (upright // 2).astype(np.uint8)  # a plugin that turned it, and changed its contrast
    assert left_out(snapshot_layers([layer])) == ()
    layer.data = upright[::-1, ::-1] // 2
    assert [finding.code for finding in left_out(snapshot_layers([layer]))] == ["opened_elsewhere"]
    layer.data = upright[5:50, 5:50]
    assert left_out(snapshot_layers([layer])) == ()  # cropped: nothing to compare
    plain = opened(gui, write_photograph(tmp_path / "plain.png"), "napari")
    assert left_out(snapshot_layers([plain])) == ()


def test_a_scan_that_lies_elsewhere_than_its_file_says_is_found_out(gui: Any, widget: Any, tmp_path: Path) -> None:
    from napari.layers import Image as ImageLayer
    from napari.layers._source import layer_source

    from meduniseg_core.images import read_image
    from napari_meduniseg._foreign import left_out
    from napari_meduniseg._layer_input import snapshot_layers

    path = write_volume(tmp_path / "mr.nii.gz")
    image = read_image(path)
    with layer_source(path=str(path)):
        bare = ImageLayer(image.array[0])
        placed = ImageLayer(image.array[0], scale=(2, 2, 2), translate=image.geometry.origin[::-1], units="mm")
    (found,) = left_out(snapshot_layers([bare]))
    assert found.code == "opened_elsewhere" and "mr.nii.gz" in found.text
    assert left_out(snapshot_layers([placed])) == ()
    path.unlink()
    assert left_out(snapshot_layers([bare])) == ()


def test_a_layer_without_units_says_what_is_taken_for_granted_before_run(gui: Any, widget: Any, qtbot: Any) -> None:
    gui.add_image(np.random.default_rng(0).normal(size=(20, 36, 40)), name="mine", contrast_limits=(-3, 3))
    widget.form.choose(modality="mri", tasks=("organ",))
    qtbot.waitUntil(lambda: "scale is taken as mm" in widget.warning.text(), timeout=SLOW)
    assert "the patient's left" in widget.warning.text()


def test_options_of_the_command_are_left_out_of_a_window_s_sentences() -> None:
    from meduniseg_core.images.findings import without_options

    text = "it shows more; give its scale (--scale 4.2) or cut it (as before)."
    assert without_options(text) == "it shows more; give its scale or cut it (as before)."
    assert without_options("give that (segment --assume-orientation).") == "give that."
    assert Finding("field_of_view", text, scale=4.2).as_json() == {
        "code": "field_of_view",
        "level": "warning",
        "text": text,
    }
