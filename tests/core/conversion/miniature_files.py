"""Files of the miniature downloads: volumes, pictures and DICOM objects with values that a test can foresee."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

SHAPE = (6, 10, 12)  # (D, H, W) of volumes
SIDE = (20, 24)  # (H, W) of pictures


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 300, size=shape, dtype=np.int16)


def blocks(*values: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A label map with one slab (two rows of every slice but the first) for each value."""
    array = np.zeros(shape, np.int16)
    for number, value in enumerate(values):
        array[1:, 2 * number % shape[1] : 2 * number % shape[1] + 2, 2:6] = value
    return array


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Save an array (D, H, W) as NIfTI, d along +z, h along -y and w along -x of RAS (ITK's identity)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(array).save(path)


def photograph(seed: int = 0, side: tuple[int, int] = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, size=(*side, 3), dtype=np.uint8)


def mask(value: int = 255, rows: slice = slice(4, 10), rest: int = 0) -> np.ndarray:
    array = np.full(SIDE, rest, np.uint8)
    array[rows, 5:15] = value
    return array


def dicom(kind: str, **elements: object) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def pixels(array: np.ndarray) -> dict[str, object]:
    bits = 8 * array.dtype.itemsize
    return {
        "Rows": array.shape[-2],
        "Columns": array.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": array.tobytes(),
    }


def series(
    folder: Path,
    kind: str,
    array: np.ndarray,
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    uid: str | None = None,
    **elements: object,
) -> str:
    """Slices of an array (D, H, W) of uint16, named as TCIA names them; returns the series' UID."""
    uid = uid or generate_uid()
    for number, plane in enumerate(array):
        dataset = dicom(
            kind,
            SeriesInstanceUID=uid,
            FrameOfReferenceUID="1.2.3",
            ImagePositionPatient=[0.0, 0.0, number * spacing[0]],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=list(spacing[1:]),
            SliceThickness=spacing[0],
            InstanceNumber=number + 1,
            RescaleSlope=1,
            RescaleIntercept=0,
            **pixels(plane),
            **elements,
        )
        saved(dataset, folder / f"1-{number + 1:03d}.dcm")
    return uid


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def segmentation(path: Path, marked: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """A binary DICOM SEG of the marked voxels (D, H, W), only of slices that have some, in reverse order."""
    slices = [number for number in range(len(marked))[::-1] if marked[number].any()] or [0]
    bits = np.packbits(np.stack([marked[number] for number in slices]).ravel(), bitorder="little").tobytes()
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, n * spacing[0]])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
        )
        for n in slices
    ]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=list(spacing[1:]), SliceThickness=spacing[0])],
    )
    elements = pixels(marked[0].astype(np.uint8)) | {
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelData": bits + b"\0" * (len(bits) % 2),
    }
    dataset = dicom(
        SegmentationStorage,
        Modality="SEG",
        SeriesInstanceUID=generate_uid(),
        SegmentationType="BINARY",
        NumberOfFrames=len(slices),
        SharedFunctionalGroupsSequence=Items([shared]),
        PerFrameFunctionalGroupsSequence=Items(frames),
        **elements,
    )
    saved(dataset, path)


def structures(path: Path, refers_to: str, contours: dict[str, Sequence[Sequence[tuple[float, float, float]]]]) -> None:
    """A structure set drawn on a series: for each structure its contours, as points (x, y, z) in mm."""
    reference = item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=refers_to)])])
    names, drawn = [], []
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        names.append(item(ROINumber=number, ROIName=name))
        points = [[f"{value:g}" for point in polygon for value in point] for polygon in polygons]
        lines = [
            item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(data) // 3, ContourData=data)
            for data in points
        ]
        drawn.append(item(ReferencedROINumber=number, ContourSequence=lines))
    dataset = dicom(
        RTStructureSetStorage,
        Modality="RTSTRUCT",
        SeriesInstanceUID=generate_uid(),
        ReferencedFrameOfReferenceSequence=[reference],
        StructureSetROISequence=names,
        ROIContourSequence=drawn,
    )
    saved(dataset, path)
