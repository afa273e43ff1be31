"""DICOM files made for tests: slices, stacks, multi-frame files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS = 5, 6
SERIES = generate_uid()


def dataset_of(kind: str = CTImageStorage, **elements: Any) -> FileDataset:
    """A CT slice of 5 x 6 pixels at the origin; ``elements`` replace or (None) remove its elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.Modality, dataset.SeriesDescription = SERIES, "CT", "Thorax"
    dataset.SeriesNumber = 4
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.6], 3
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, 0]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = np.arange(ROWS * COLUMNS, dtype=np.uint16).tobytes()
    for keyword, element in elements.items():
        if element is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, element)
    return dataset


def write_slice(folder: Path, name: str, position: Sequence[float], value: int = 0, **elements: Any) -> Path:
    """A CT slice whose pixels count up from ``value``."""
    folder.mkdir(exist_ok=True, parents=True)
    pixels = (np.arange(ROWS * COLUMNS, dtype=np.uint16) + value).tobytes()
    elements = {"ImagePositionPatient": list(position), "PixelData": pixels, **elements}
    dataset_of(**elements).save_as(folder / name, enforce_file_format=True)
    return folder / name


def write_stack(folder: Path, heights: Sequence[float], shift: float = 0.0, **elements: Any) -> Path:
    """Slices at these heights, named in an order that is not the positions'."""
    for number, height in enumerate(heights):
        name = f"IM{(number * 7) % 11:02d}_{number}"
        write_slice(folder, name, (-100.5, -50.25 + shift * height, height), value=int(height * 10), **elements)
    return folder


def frame_item(**groups: dict[str, Any]) -> Dataset:
    """One item of functional groups: ``PlanePosition={"ImagePositionPatient": [...]}``, ..."""
    item = Dataset()
    for group, elements in groups.items():
        inner = Dataset()
        for keyword, value in elements.items():
            setattr(inner, keyword, value)
        setattr(item, f"{group}Sequence", [inner])
    return item


def enhanced(frames: Sequence[Dataset], planes: np.ndarray, **elements: Any) -> FileDataset:
    """An enhanced CT: per-frame items ``frames`` and uint16 ``planes`` (F, 5, 6); orientation and size are shared."""
    shared = frame_item(
        PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasures={"PixelSpacing": [0.8, 0.6], "SliceThickness": 2},
    )
    gone = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    return dataset_of(
        EnhancedCTImageStorage,
        **dict.fromkeys((*gone, "SliceThickness")),
        **{
            "NumberOfFrames": len(frames),
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": list(frames),
            "PixelData": planes.astype(np.uint16).tobytes(),
            **elements,
        },
    )


def save(dataset: FileDataset, path: Path) -> Path:
    """Write ``dataset`` to ``path``."""
    path.parent.mkdir(exist_ok=True, parents=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
