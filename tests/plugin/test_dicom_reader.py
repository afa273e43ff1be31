"""DICOM dropped on the viewer: known by its content, found in subfolders, opened one layer per image."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import napari_meduniseg
from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats import dicom_files
from napari_meduniseg import _choose_images as choose_images
from napari_meduniseg import _reader
from napari_meduniseg._reader import get_reader


def write_slices(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.Modality, dataset.SeriesInstanceUID = CTImageStorage, "CT", "1.2.3"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 5, 1
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        dataset.PhotometricInterpretation, dataset.PixelSpacing = "MONOCHROME2", [1, 1]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, 2 * number]
        dataset.PixelData = np.arange(20, dtype=np.uint16).tobytes()
        dataset.save_as(folder / f"IM{number:04d}", enforce_file_format=True)
    return folder


def layers(path: Path) -> list[str]:
    reader = get_reader(str(path))
    assert reader is not None
    return [options["name"] for _, options, _ in reader(str(path))]


def test_folders_with_dicom_below_and_files_without_ending_are_taken(tmp_path: Path) -> None:
    series = write_slices(tmp_path / "cd" / "DICOM" / "SE0")
    assert layers(tmp_path / "cd") == ["SE0"]
    assert layers(series / "IM0001") == ["IM0001"]
    renamed = (series / "IM0001").rename(series / "slice.IMA")
    assert layers(renamed) == ["slice.IMA"]
    (tmp_path / "NOTES").write_text("a text without an ending " * 20)
    assert get_reader(str(tmp_path / "NOTES")) is None
    assert get_reader(str(tmp_path / "gone")) is None


def test_several_images_of_a_folder_are_opened_together_but_not_hundreds(tmp_path: Path) -> None:
    for patient in range(12):
        write_slices(tmp_path / f"P{patient:02d}" / "CT", 1)
    assert len(layers(tmp_path)) == 12
    write_slices(tmp_path / "P12" / "CT", 1)
    with pytest.raises(BadInputError, match="holds 13 DICOM images; open one of its folders"):
        layers(tmp_path)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("IM0001", True),
        ("00000017", True),
        ("I", True),
        ("slice.IMA", True),
        ("x.DCM", True),
        ("MR.1.2.840.113619.2.5.417", True),
        ("photo.jpg", True),
        ("photo.2.JPEG", True),
        ("photo.bmp", True),
        ("photo.2.gif", False),
        ("table.csv", False),
    ],
)
def test_the_manifest_offers_the_reader_for_names_of_dicom_and_of_our_formats_only(name: str, ours: bool) -> None:
    manager = PluginManager()
    manifest = Path(napari_meduniseg.__file__).with_name("napari.yaml")
    manager.register(PluginManifest.from_file(manifest))
    offered = {reader.command for reader in manager.iter_compatible_readers([f"/data/x/{name}"])}
    assert ("napari-meduniseg.read" in offered) == ours


def test_series_and_frames_are_opened_as_a_layer_each(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "study", 3)
    for number, path in enumerate(sorted(write_slices(tmp_path / "other", 4).iterdir())):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = "1.2.4", 9, "late"
        dataset.TriggerTime, dataset.ImagePositionPatient = 30 * (number // 2), [0, 0, 2 * (number % 2)]
        dataset.save_as(folder / f"Z{number}")
    assert layers(folder) == [
        "study: series - '' (3 images of 4x5)",
        "study: series 9 'late' (4 images of 4x5): frame 1 of 2",
        "study: series 9 'late' (4 images of 4x5): frame 2 of 2",
    ]


def test_a_long_film_is_opened_by_its_first_frames_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(_reader, "show_warning", said.append)
    path = tmp_path / "bold.nii.gz"
    nib.Nifti1Image(np.zeros((4, 5, 3, 20), np.int16), np.eye(4)).to_filename(path)
    assert layers(path) == [f"bold.nii.gz: frame {number} of 20" for number in range(1, 13)]
    assert said == [
        "bold.nii.gz holds 20 frames, of which the first 12 are opened; 'meduniseg segment --frame N' takes any."
    ]


def test_of_a_long_film_the_user_chooses_where_there_is_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    answer = [0, 19]

    def ask(text: str, titles: list[str]) -> list[int]:
        asked.append((text, len(titles)))
        return answer

    monkeypatch.setattr(choose_images, "can_ask", lambda: True)
    monkeypatch.setattr(choose_images, "ask_which", ask)
    path = tmp_path / "bold.nii.gz"
    nib.Nifti1Image(np.zeros((4, 5, 3, 20), np.int16), np.eye(4)).to_filename(path)
    assert layers(path) == ["bold.nii.gz: frame 1 of 20", "bold.nii.gz: frame 20 of 20"]
    assert asked == [("bold.nii.gz holds 20 frames. Choose those to open; each becomes a layer.", 20)]
    answer.clear()  # cancelled
    reader = get_reader(str(path))
    assert reader is not None and reader(str(path)) == [(None,)]


def test_of_many_folders_and_series_the_user_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_images, "can_ask", lambda: True)
    monkeypatch.setattr(choose_images, "ask_which", lambda _text, titles: [1, len(titles) - 1])
    for patient in range(13):
        write_slices(tmp_path / "cohort" / f"P{patient:02d}" / "CT", 1)
    assert layers(tmp_path / "cohort") == ["CT", "CT"]
    study = tmp_path / "study"
    study.mkdir()
    for series in range(14):
        for path in write_slices(tmp_path / f"s{series}", 2).iterdir():
            dataset = dcmread(path)
            dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = f"1.2.{series}", series, "a"
            dataset.save_as(study / f"{series}_{path.name}")
    assert layers(study) == ["study: series 10 'a' (2 images of 4x5)", "study: series 9 'a' (2 images of 4x5)"]


def test_headers_of_a_folder_are_read_once_for_all_its_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_slices(tmp_path / "study", 3)
    for number, path in enumerate(sorted(write_slices(tmp_path / "other", 4).iterdir())):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = f"1.2.{4 + number // 2}"
        dataset.save_as(folder / f"Z{number}")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))  # what was changed just now may change again unseen, and is read anew
    read: list[str] = []
    real = dicom_files.read_header
    monkeypatch.setattr(dicom_files, "read_header", lambda path: (read.append(path.name), real(path))[1])
    assert len(layers(folder)) == 3
    assert len(read) == 7 + 2  # the first is looked at to see what the folder holds, and of which series
    dataset = dcmread(folder / "Z3")
    dataset.SeriesInstanceUID = "1.2.9"
    dataset.save_as(folder / "Z3")
    assert len(layers(folder)) == 4
