"""The place of one DICOM frame, read from its header. A fault is kept with the frame until the frame is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats.dicom_frames import FrameHeader, frame_headers, frames_over_time
from meduniseg_core.images.formats.dicom_source import VOLUME_MARKS, class_of, naming, one_line
from meduniseg_core.images.formats.dicom_spacing import (
    DicomElements,
    SpacingSource,
    floats,
    pixel_aspect,
    pixel_spacing,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Slice:
    """One frame and its place in mm, LPS.

    ``orientation`` holds six cosines: the row direction, then the column direction. ``frame`` counts the frames of a
    multi-frame file from 0 (None: the file holds one). ``volume`` is that file or its concatenation, and ``part`` says
    which of the file's volumes the frame belongs to. ``reference_uid`` names the coordinate system of the positions.
    ``location`` is the scanner's own coordinate along the stack. ``in_volume``: the place is relative to an ultrasound
    volume and not to the patient. ``rescale`` (slope, intercept) is None where the header gives neither. ``marks``
    (keyword, value) can tell the frame from others at its place. ``fault`` makes the frame unusable; it is raised only
    if the frame is wanted.
    """

    path: Path
    uid: str = ""
    number: str = ""
    description: str = ""
    modality: str = ""
    patient: str = ""
    date: str = ""
    kind: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    orientation: tuple[float, ...] | None = None
    position: tuple[float, ...] | None = None
    location: float | None = None
    spacing: tuple[float, float] | None = None
    spacing_source: SpacingSource = "none"
    aspect: float = 1.0
    thickness: float | None = None
    rescale: tuple[float, float] | None = None
    instance: int | None = None
    instance_uid: str = ""
    study_uid: str = ""
    reference_uid: str = ""
    frame: int | None = None
    volume: str = ""
    part: tuple[str, ...] = ()
    over_time: bool = False
    in_volume: bool = False
    marks: tuple[tuple[str, float | str], ...] = ()
    fault: BadInputError | None = None

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where the file holds several."""
        return self.path.name if self.frame is None else f"{self.path.name} (frame {self.frame + 1})"


def slices_of(dataset: Dataset, path: Path) -> list[Slice]:
    """List the frames of an image file.

    Args:
        dataset: The file's header.
        path: The file.

    Returns:
        One slice per frame, with its faults. A fault of the whole file gives a single slice.
    """
    common = series_of(dataset, path)
    try:
        with naming(path):
            headers = frame_headers(dataset, path.name)
    except BadInputError as fault:
        return [Slice(path, **common, fault=fault)]
    slices: list[Slice] = []
    before: DicomElements | None = None
    for header, frame, part in headers:
        if header is before:  # frames without groups of their own: thousands may share one header
            slices.append(replace(slices[-1], frame=frame))
        else:
            slices.append(_slice(header, dataset, path, common, frame, part))
        before = header
    return slices


def series_of(dataset: Dataset, path: Path) -> dict[str, Any]:
    """Read what identifies a file's series and object.

    Args:
        dataset: The file's header.
        path: The file.

    Returns:
        Fields of `Slice`; text that cannot be read is empty.
    """

    def text(keyword: str) -> str:
        try:
            with naming(path):
                return one_line(str(dataset.get(keyword) or ""))
        except BadInputError:
            return ""

    return {
        "uid": text("SeriesInstanceUID"),
        "number": text("SeriesNumber"),
        "description": text("SeriesDescription"),
        "modality": text("Modality"),
        "patient": text("PatientID"),
        "date": text("SeriesDate") or text("StudyDate"),
        "kind": one_line(str(class_of(dataset) or "")),
        "instance_uid": text("SOPInstanceUID"),
        "study_uid": text("StudyInstanceUID"),
        "reference_uid": text("FrameOfReferenceUID"),
    }


def _slice(
    header: DicomElements,
    dataset: Dataset,
    path: Path,
    common: dict[str, Any],
    frame: int | None,
    part: tuple[str, ...],
) -> Slice:
    name = path.name
    faults: list[BadInputError] = []

    def asked(read: Callable[[], T], otherwise: T) -> T:
        try:
            with naming(path):
                return read()
        except BadInputError as error:
            faults.append(error)
            return otherwise

    rows, columns = asked(lambda: _size(dataset, name), (0, 0))
    nothing: tuple[tuple[float, float] | None, SpacingSource] = (None, "none")
    spacing, source = asked(lambda: pixel_spacing(header, common["modality"], name), nothing)
    thickness = asked(lambda: _thickness(header, name), None)
    return Slice(
        path,
        **common,
        rows=rows,
        columns=columns,
        samples=asked(lambda: int(dataset.get("SamplesPerPixel") or 1), 1),
        orientation=asked(lambda: _orientation(header, name), None),
        position=asked(lambda: _position(header, name), None),
        location=asked(lambda: _one(header, "SliceLocation", name), None),
        spacing=spacing,
        spacing_source=source,
        aspect=asked(lambda: pixel_aspect(header, name), 1.0),
        thickness=thickness,
        rescale=asked(lambda: _rescale(header, name), None),
        instance=_instance(header, "InstanceNumber" if frame is None else "InStackPositionNumber", path),
        frame=frame,
        volume="" if frame is None else str(dataset.get("ConcatenationUID") or path),
        part=part,
        over_time=asked(lambda: frames_over_time(dataset, common["modality"]), False),
        in_volume=isinstance(header, FrameHeader) and header.in_volume,
        marks=() if frame is not None else _marks(dataset, path),
        fault=faults[0] if faults else None,
    )


def _marks(dataset: Dataset, path: Path) -> tuple[tuple[str, float | str], ...]:
    """The values of ``VOLUME_MARKS`` that the file has; one that cannot be read does not count."""
    marks: list[tuple[str, float | str]] = []
    for keyword in VOLUME_MARKS:
        try:
            with naming(path):
                value = dataset.get(keyword)
                if value is None or str(value) == "":
                    continue
                text = one_line("\\".join(value) if keyword == "ImageType" else str(value))
        except BadInputError:
            continue
        try:
            number = float(text)
        except ValueError:
            marks.append((keyword, text))
        else:
            if np.isfinite(number):
                marks.append((keyword, number))
    return tuple(marks)


def _size(dataset: Dataset, name: str) -> tuple[int, int]:
    rows, columns = int(dataset.Rows or 0), int(dataset.Columns or 0)
    if rows < 1 or columns < 1:
        raise BadInputError(f"{name} has impossible sizes ({rows}x{columns}) in its header; export it again.")
    return rows, columns


def _thickness(header: DicomElements, name: str) -> float | None:
    value = _one(header, "SpacingBetweenSlices", name) or _one(header, "SliceThickness", name)
    return value if value is not None and np.isfinite(value) and value > 0 else None


def _position(header: DicomElements, name: str) -> tuple[float, ...] | None:
    position = floats(header, "ImagePositionPatient", 3, name)
    if position is not None and not np.isfinite(position).all():
        raise BadInputError(f"{name} has a position that is NaN or infinite; export the series again.")
    return position


def _orientation(header: DicomElements, name: str) -> tuple[float, ...] | None:
    cosines = floats(header, "ImageOrientationPatient", 6, name)
    if cosines is None:
        return None
    rows = np.array(cosines).reshape(2, 3)
    if not np.isfinite(rows).all() or not np.allclose(rows @ rows.T, np.eye(2), atol=1e-3):
        raise BadInputError(f"{name} has an impossible orientation ({list(cosines)}); export the series again.")
    return cosines


def _rescale(header: DicomElements, name: str) -> tuple[float, float] | None:
    """(slope, intercept) from stored values to the header's unit; None where the header gives neither."""
    slope, intercept = _one(header, "RescaleSlope", name), _one(header, "RescaleIntercept", name)
    if slope is None and intercept is None:
        return None
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(intercept):
        raise BadInputError(f"{name} rescales its pixels by {slope:g} and adds {intercept:g}; export it again.")
    return slope, intercept


def _instance(header: DicomElements, keyword: str, path: Path) -> int | None:
    try:
        with naming(path):
            value = _one(header, keyword, path.name)
    except BadInputError:
        return None
    return int(value) if value is not None and np.isfinite(value) else None


def _one(header: DicomElements, keyword: str, name: str) -> float | None:
    values = floats(header, keyword, 1, name)
    return None if values is None else values[0]
