"""DICOM dropped on the viewer: known by its content, found in subfolders, opened one layer per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import napari_meduniseg
from meduniseg_core.errors import BadInputError
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
        ("photo.jpg", False),
        ("photo.2.jpg", False),
        ("table.csv", False),
    ],
)
def test_the_manifest_offers_the_reader_for_dicom_names_only(name: str, ours: bool) -> None:
    manager = PluginManager()
    manifest = Path(napari_meduniseg.__file__).with_name("napari.yaml")
    manager.register(PluginManifest.from_file(manifest))
    offered = {reader.command for reader in manager.iter_compatible_readers([f"/data/x/{name}"])}
    assert ("napari-meduniseg.read" in offered) == ours
