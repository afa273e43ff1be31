"""DICOM segmentations and structure sets in the viewer: opened on their image, and saved for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from napari.layers import Image as ImageLayer
from napari.layers import Labels

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "dicom_objects"))
from series_making import blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import place_labels, read_image, read_labels
from napari_meduniseg._reader import read_one
from napari_meduniseg._writer import write_on_grid
from napari_meduniseg.widgets.save_button import with_ending

pytest.importorskip("highdicom")
SHAPE = (6, 12, 15)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_volume(
        tmp_path / "study" / "series", oblique(SHAPE, (2.5, 0.9, 0.7), [[0.1, 0, 1], [0, 1, 0.1], [1, 0, 0]])
    )


def objects(series: Path, folder: Path) -> np.ndarray:
    image = read_image(series)
    labels = blobs(SHAPE)
    folder.mkdir(exist_ok=True)
    for ending in (".sr.dcm", ".rtstruct.dcm"):
        for name, write in dicom_writers([labelled(image, labels)], folder / f"case{ending}").items():
            write(folder / name)
    return labels


@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm", ".sr.dcm"])
def test_labels_open_on_their_image(series: Path, tmp_path: Path, ending: str) -> None:
    labels = objects(series, tmp_path / "out")
    if ending == ".rtstruct.dcm":  # contours alone have no grid
        with pytest.raises(BadInputError, match="need the image they were drawn on"):
            read_one(tmp_path / "out" / f"case{ending}")
    ((shown, options, _),) = read_one(series)
    layer = ImageLayer(shown, **options)  # living, as in a viewer
    ((data, made, kind),) = read_one(tmp_path / "out" / f"case{ending}")
    assert kind == "labels" and data.shape == layer.data.shape
    assert np.bincount(data.ravel()).tolist() == np.bincount(labels.ravel()).tolist()
    assert np.allclose(made["translate"], options["translate"]) and np.allclose(made["scale"], options["scale"])
    assert list(made["features"]["name"]) == ["background", "liver", "left kidney", "tumour"]


def test_contours_beside_their_series_open_by_themselves(series: Path) -> None:
    labels = objects(series, series.parent)
    (series.parent / "case.seg.dcm").unlink()
    (series.parent / "case.sr.dcm").unlink()
    ((data, _, kind),) = read_one(series.parent / "case.rtstruct.dcm")
    assert kind == "labels" and np.count_nonzero(data) == np.count_nonzero(labels)


def test_a_layer_is_saved_as_dicom_with_who_made_it(series: Path, tmp_path: Path) -> None:
    ((shown, options, _),) = read_one(series)
    image = ImageLayer(shown, **options)
    drawn = np.zeros(shown.shape, np.uint8)
    drawn[2, 3:6, 4:9] = 2
    placement = {key: options[key] for key in ("scale", "translate", "units", "axis_labels") if key in options}
    layer = Labels(drawn, name="mine", **placement)
    data, attributes, _ = layer.as_layer_data_tuple()
    for ending, element in ((".seg.dcm", "SegmentSequence"), (".rtstruct.dcm", "StructureSetROISequence")):
        path = tmp_path / f"mine{ending}"
        write_on_grid(str(path), data, attributes, [image, layer], image)
        stored = read_image(series)
        back = place_labels(read_labels(path, like=stored), stored)
        assert np.count_nonzero(back.array) == 15
        (segment,) = pydicom.dcmread(path)[element].value
        assert segment.get("SegmentAlgorithmType", segment.get("ROIGenerationAlgorithm")) == "MANUAL"


def test_the_chosen_kind_gives_the_ending() -> None:
    assert with_ending(Path("a/ct_liver.nii.gz"), ".seg.dcm") == Path("a/ct_liver.seg.dcm")
    assert with_ending(Path("a/ct.SEG.dcm"), ".seg.dcm") == Path("a/ct.SEG.dcm")
    assert with_ending(Path("a/ct.nrrd"), None) == Path("a/ct.nrrd")


def test_the_dialog_offers_dicom_only_for_what_came_from_dicom(
    gui: Any, series: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from napari.layers import Layer
    from qtpy.QtWidgets import QFileDialog

    from napari_meduniseg.widgets.save_button import SaveButton

    asked: list[str] = []

    def answer(*arguments: Any) -> tuple[str, str]:
        asked.append(arguments[3])
        return "", ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    for data, options, kind in read_one(series):
        gui.add_layer(Layer.create(data, options, kind))
    (shown,) = [layer for layer in gui.layers if isinstance(layer, ImageLayer)]
    of_dicom = gui.add_labels(np.zeros(shown.data.shape, np.uint8), scale=shown.scale, translate=shown.translate)
    of_dicom.units = shown.units
    other = gui.add_labels(np.zeros((3, 4, 5), np.uint8))
    for layer in (of_dicom, other):
        button = SaveButton(lambda layer=layer: layer, "none")
        button.click()
    assert "DICOM segmentation (*.seg.dcm)" in asked[0] and "(*.rtstruct.dcm)" in asked[0]
    assert "DICOM" not in asked[1]
