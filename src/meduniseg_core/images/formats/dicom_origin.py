"""Which DICOM objects the planes of an image were read from, for what refers to them: segmentations, contours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.images.formats.dicom_slices import Slice
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

ORIGIN = "dicom_origin"
"""The key of the `DicomOrigin` in `Image.meta`."""


@dataclass(frozen=True)
class SourceFrame:
    """One plane's frame: its file, its object, and its number in it from 0 (None: the object holds one frame)."""

    path: Path
    class_uid: str
    instance_uid: str
    frame: int | None


@dataclass(frozen=True)
class DicomOrigin:
    """The series that an image was read from.

    ``frames[d]`` is the frame of plane d (rows are h, columns are w). ``reference_uid`` names the coordinate system
    (empty where the headers give none), and ``geometry`` is the grid as it was read.
    """

    study_uid: str
    series_uid: str
    reference_uid: str
    frames: tuple[SourceFrame, ...]
    geometry: Geometry


def origin_of(slices: Sequence[Slice], geometry: Geometry) -> DicomOrigin:
    """Note where an image's planes come from.

    Args:
        slices: The frames in the order of the planes.
        geometry: The grid that they make.

    Returns:
        Their objects.
    """
    first = slices[0]
    references = {item.reference_uid for item in slices}
    frames = tuple(SourceFrame(item.path, item.kind, item.instance_uid, item.frame) for item in slices)
    reference = first.reference_uid if len(references) == 1 else ""
    return DicomOrigin(first.study_uid, first.uid, reference, frames, geometry)


def dicom_origin(image: Image) -> DicomOrigin | None:
    """Find the series that an image was read from.

    Args:
        image: An image.

    Returns:
        Its origin; None where it was not read from DICOM, or its grid is not the one that was read.
    """
    origin = image.meta.get(ORIGIN)
    return origin if isinstance(origin, DicomOrigin) and origin.geometry == image.geometry else None
