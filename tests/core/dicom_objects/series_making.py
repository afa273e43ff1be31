"""DICOM series made of volumes, with made-up headers: of single files or one multi-frame file, in any orientation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from meduniseg_core.dicom_objects import LabelledSeries
from meduniseg_core.images import Geometry, Image

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
from dicom_making import frame_item

PATIENT = {"PatientName": "Müller^Änne", "PatientID": "4711", "PatientBirthDate": "19500101", "PatientSex": "F"}


def text(values: Sequence[float] | np.ndarray) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{value:.10g}" for value in values]


def write_volume(folder: Path, image: Image, kind: str = "files", **elements: Any) -> Path:
    """An int16 volume as a series. ``kind``: "files", "reversed" (files named against the order), "frames"."""
    folder.mkdir(parents=True)
    affine, shape = image.geometry.affine, image.geometry.shape
    shared: dict[str, Any] = {
        **PATIENT,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": 4,
        "FrameOfReferenceUID": generate_uid(),
        "SpecificCharacterSet": "ISO_IR 100",
        "Modality": "CT",
        "StudyDate": "20200102",
        "StudyTime": "101112",
        "StudyID": "s",
        "AccessionNumber": "a77",
        **elements,
    }
    orientation = text([*affine[:3, 2] / image.geometry.spacing[2], *affine[:3, 1] / image.geometry.spacing[1]])
    spacing = text(image.geometry.spacing[1:])
    places = [text((affine @ [d, 0, 0, 1])[:3]) for d in range(shape[0])]
    if kind == "frames":
        frames = [frame_item(PlanePosition={"ImagePositionPatient": place}) for place in places]
        order = np.roll(np.arange(shape[0]), 3)  # frames in an order that is not the positions'
        whole = _image(EnhancedCTImageStorage, image.array[0][order], shared)
        whole.NumberOfFrames = shape[0]
        measures = {"PixelSpacing": spacing, "SliceThickness": f"{image.geometry.spacing[0]:.10g}"}
        whole.SharedFunctionalGroupsSequence = [
            frame_item(PlaneOrientation={"ImageOrientationPatient": orientation}, PixelMeasures=measures)
        ]
        whole.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
        whole.save_as(folder / "enhanced.dcm", enforce_file_format=True)
        return folder
    for plane, place in enumerate(places):
        one = _image(CTImageStorage, image.array[0, plane], shared)
        one.ImageOrientationPatient, one.ImagePositionPatient, one.PixelSpacing = orientation, place, spacing
        one.SliceThickness, one.InstanceNumber = f"{image.geometry.spacing[0]:.10g}", plane + 1
        number = shape[0] - plane if kind == "reversed" else plane
        one.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
    return folder


def write_picture(path: Path, shape: tuple[int, int]) -> Path:
    """A radiograph, which has no place in the patient."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)
    _image(DigitalXRayImageStorageForPresentation, pixels, {**PATIENT, **uids, "Modality": "DX"}).save_as(
        path, enforce_file_format=True
    )
    return path


def _image(storage: str, pixels: np.ndarray, elements: dict[str, Any]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of real scanners are not always valid, either
        for keyword, value in elements.items():
            if value is not None:
                setattr(made, keyword, value)
    made.Rows, made.Columns, made.SamplesPerPixel = *pixels.shape[-2:], 1
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.PhotometricInterpretation, made.RescaleSlope, made.RescaleIntercept = "MONOCHROME2", 1, 0
    made.PixelData = pixels.astype("<i2").tobytes()
    return made


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float], rows: Sequence[Sequence[float]]) -> Image:
    """A volume of ones whose axes (d, h, w) run along the columns of ``rows`` (orthonormalised)."""
    axes, _ = np.linalg.qr(np.array(rows, dtype=float))
    if np.linalg.det(axes) > 0:  # planes are stacked along w x h
        axes[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = (-31.5, 12.25, 77.125)
    return Image(np.ones((1, *shape), np.int16), Geometry.from_affine(affine, shape))


def blobs(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Labels 0 to 3 ``(D, H, W)`` with holes, separate parts and empty planes."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.standard_normal(shape), 1.5)
    labels = np.digitize(smooth, np.quantile(smooth, [0.6, 0.75, 0.9])).astype(np.uint8)
    labels[0] = labels[shape[0] // 2] = 0
    return labels


def labelled(image: Image, labels: np.ndarray, **changes: Any) -> LabelledSeries:
    """Labels 1 to 3 of an imaginary model on an image that was read."""
    fields: dict[str, Any] = {
        "labels": Image(labels[None], image.geometry),
        "image": image,
        "classes": {1: "liver", 2: "left kidney", 3: "tumour"},
        "colours": {1: (230, 25, 75), 2: (60, 180, 75), 3: (0, 130, 200)},
        "task": "abdomen",
        "algorithm": "starter",
        "algorithm_sha256": "ab" * 32,
        "version": "0.1.0",
        **changes,
    }
    return LabelledSeries(**fields)
