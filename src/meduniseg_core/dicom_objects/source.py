"""The headers of the series that a result belongs to, and what is taken over from them."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images.formats.dicom_origin import ORIGIN, DicomOrigin, dicom_origin
from meduniseg_core.images.formats.dicom_source import class_of, naming
from meduniseg_core.images.image import Image

PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("OtherPatientIDsSequence", "EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ProcedureCodeSequence"),
    *("PatientAge", "PatientSize", "PatientWeight", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "TimezoneOffsetFromUTC"),
)
"""The elements of patient and study, which every object of the study repeats as they are."""

_REQUIRED_IF_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that DICOM wants present, if need be without a value (type 2)."""

MANUFACTURER = "MedUniSeg"
PRODUCT = "napari-meduniseg"
_SERIES_STEP = 100


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The series of an image: its origin, and the header of the object of each plane (planes of one object share it).

    Pixels are not read. Text is decoded, so that it can be written in another character set.
    """

    origin: DicomOrigin
    headers: tuple[Dataset, ...]

    @property
    def first(self) -> Dataset:
        """The header that stands for the series."""
        return self.headers[0]

    @property
    def objects(self) -> tuple[Dataset, ...]:
        """Each object's header once."""
        return tuple({str(header.SOPInstanceUID): header for header in self.headers}.values())


def source_series(image: Image) -> SourceSeries:
    """Read the headers of the series that an image came from.

    Args:
        image: The image as it was read.

    Returns:
        The series.

    Raises:
        BadInputError: The image was not read from DICOM, a file is gone or another one now, or the headers lack what
            an object of the same study must refer to.
    """
    origin = dicom_origin(image)
    if origin is None:
        was = "was moved or resampled since it was read" if ORIGIN in image.meta else "was not read from DICOM"
        raise BadInputError(
            f"{image.name} {was}, so no DICOM object can refer to it; give the DICOM series itself, or save as nii.gz."
        )
    read: dict[str, Dataset] = {}
    for frame in origin.frames:
        key = str(frame.path)
        if key not in read:
            with naming(frame.path), open_regular(frame.path) as stream:
                read[key] = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
                read[key].decode()
                if not read[key].get("SOPClassUID") and (kind := class_of(read[key])) is not None:
                    read[key].SOPClassUID = kind  # emptied when it was made anonymous; the file's meta group has it
        if str(read[key].get("SOPInstanceUID") or "") != frame.instance_uid:
            raise BadInputError(f"{frame.path.name} is another object than when {image.name} was read; try again.")
    headers = tuple(read[str(frame.path)] for frame in origin.frames)
    _check_identity(image, origin, headers)
    return SourceSeries(origin, headers)


def _check_identity(image: Image, origin: DicomOrigin, headers: Sequence[Dataset]) -> None:
    """Refuse headers without the UIDs that an object of the same study must refer to, naming all that they lack."""
    lacking = []
    for keyword, value in (("StudyInstanceUID", origin.study_uid), ("SeriesInstanceUID", origin.series_uid)):
        if not value or any(str(header.get(keyword) or "") != value for header in headers):
            lacking.append(f"the same {keyword} in every header" if value else keyword)
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        if not all(header.get(keyword) for header in headers):
            lacking.append(keyword)
    if lacking:
        raise BadInputError(
            f"{image.name} lacks {', '.join(lacking)} (removed when it was made anonymous?), so no DICOM object can "
            "refer to it; export the series again, or save as nii.gz."
        )


def copy_patient_and_study(source: SourceSeries, target: Dataset) -> None:
    """Repeat patient and study in a new object, exactly as the source has them. Text is written as UTF-8.

    Args:
        source: The series.
        target: The object; it is changed.
    """
    for keyword in PATIENT_AND_STUDY:
        if keyword in source.first:
            target[keyword] = copy.deepcopy(source.first[keyword])
        elif keyword in target:
            del target[keyword]
    for keyword in _REQUIRED_IF_EMPTY:
        if keyword not in target:
            setattr(target, keyword, None)
    target.SpecificCharacterSet = "ISO_IR 192"


def fresh_uid() -> str:
    """Make a new UID, from a random UUID.

    Returns:
        A UID below 2.25.
    """
    return str(generate_uid(prefix=None))


def series_number(source: SourceSeries, offset: int) -> int:
    """Choose the number of a new series of the study.

    Args:
        source: The source series.
        offset: Which kind of object, from 1.

    Returns:
        A number that shows the source's: series 4 gives 401, 402, ...
    """
    try:
        number = int(source.first.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    own = number * _SERIES_STEP + offset
    return own if 0 < own < 2**31 else offset


def described(text: str) -> str:
    """Make a text fit a description of DICOM.

    Args:
        text: Any text.

    Returns:
        At most 64 characters without line breaks and backslashes.
    """
    return "".join(letter if letter.isprintable() and letter != "\\" else " " for letter in text)[:64].strip()


def now() -> datetime.datetime:
    """The time of writing.

    Returns:
        Local time, with its zone.
    """
    return datetime.datetime.now().astimezone()
