"""Real images in a real viewer: open, segment with the shipped model, save, and read back with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from meduniseg_core.images import read_labels

pytestmark = pytest.mark.real


def segmented(gui: Any, qtbot: Any, path: Path, modality: str, task: str) -> Any:
    """Open the file, run the task on it, and give the result's layer."""
    photograph = path.suffix == ".png"  # napari's own reader takes those
    gui.open(str(path), plugin="napari" if photograph else "napari-meduniseg")
    _, panel = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    panel.form.choose(model="starter", modality=modality, tasks=(task,))
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=300_000)
    assert "Done" in panel.said.text(), panel.said.text()
    assert panel.table.table.rowCount() > 0
    return gui.layers[-1]


def saved(gui: Any, layer: Any, path: Path) -> Path:
    gui.layers.selection = {layer}
    assert gui.layers.save(str(path), selected=True, plugin="napari-meduniseg")
    return path


def test_a_ct_as_dicom_series_is_segmented_and_saved_on_its_grid(
    gui: Any, qtbot: Any, shared_data: Path, tmp_path: Path
) -> None:
    series = shared_data / "Dataset301_Geometry" / "ct_dicom_series"
    layer = segmented(gui, qtbot, series, "ct", "head_neck_organs")
    written = sitk.ReadImage(str(saved(gui, layer, tmp_path / "labels.nii.gz")))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    source = reader.Execute()
    assert written.GetSize() == source.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, name)(), getattr(source, name)(), atol=1e-3, err_msg=name)


def test_an_oblique_volume_is_segmented_and_saved_on_its_grid(
    gui: Any, qtbot: Any, shared_data: Path, tmp_path: Path
) -> None:
    source = nib.load(next((shared_data / "Dataset101_Hippocampus" / "imagesTs").glob("*_0000.nii.gz")))
    angle = np.deg2rad(17)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = nib.Nifti1Image(np.asanyarray(source.dataobj), turn @ source.affine)
    nib.save(oblique, tmp_path / "oblique.nii.gz")
    layer = segmented(gui, qtbot, tmp_path / "oblique.nii.gz", "mri", "hippocampus")
    assert (layer.data > 0).sum() > 500  # the patient lies in the scanner at an angle; the image is the same
    written = nib.load(saved(gui, layer, tmp_path / "labels.nii.gz"))
    assert written.shape == oblique.shape
    np.testing.assert_allclose(written.affine, oblique.affine, atol=1e-4)


def test_a_photograph_is_segmented_and_saved_on_its_pixels(
    gui: Any, qtbot: Any, shared_data: Path, tmp_path: Path
) -> None:
    photograph = sorted((shared_data / "Dataset104_SkinLesion" / "imagesTs").glob("*.*"))[0]
    layer = segmented(gui, qtbot, photograph, "dermoscopy", "skin_lesion")
    path = saved(gui, layer, tmp_path / "labels.png")
    written, source = sitk.ReadImage(str(path)), sitk.ReadImage(str(photograph))
    assert written.GetSize()[:2] == source.GetSize()[:2]
    np.testing.assert_array_equal(read_labels(path).array[0, 0], layer.data)
    assert set(np.unique(sitk.GetArrayFromImage(written))) <= {0, 1}


def test_every_panel_s_main_path_on_a_real_ct(gui: Any, qtbot: Any, shared_data: Path, tmp_path: Path) -> None:
    layer = segmented(gui, qtbot, shared_data / "Dataset301_Geometry" / "ct_sm.nii.gz", "ct", "head_neck_organs")
    before = gui.add_labels(
        np.array(layer.data), name="before", scale=layer.scale, translate=layer.translate, units=layer.units
    )
    image = gui.layers[0]
    assert tuple(image.contrast_limits) == (-160, 240)  # soft tissue
    _, edit = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    edit.layer_box.set_layer(layer)
    qtbot.waitUntil(lambda: not edit.palette_table.busy)
    layer.selected_label = 1
    layer.data_setitem(tuple(np.full(1, n // 2) for n in layer.data.shape), np.ones(1, layer.data.dtype))
    edit.amount.setValue(8.0)
    edit.do("grow")
    qtbot.waitUntil(lambda: not edit.busy, timeout=60_000)
    assert "voxels changed" in edit.said.text()
    _, review = gui.window.add_plugin_dock_widget("napari-meduniseg", "Review")
    review.first.set_layer(layer)
    review.second.set_layer(before)
    review.compare()
    qtbot.waitUntil(lambda: not review.busy, timeout=60_000)
    assert review.table.rowCount() >= 1
    review.export(tmp_path / "review.csv")
    assert (tmp_path / "review.csv").read_text().count("\n") >= 2
    _, models = gui.window.add_plugin_dock_widget("napari-meduniseg", "Models")
    assert "head_neck_organs" in models.details.toPlainText() or models.list.count() > 1
