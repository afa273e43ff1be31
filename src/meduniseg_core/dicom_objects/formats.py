"""The DICOM objects that a result can be written as, by the name of the format and by the file's ending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from meduniseg_core.dicom_objects.extra import making, require_highdicom
from meduniseg_core.dicom_objects.labelled import LabelledSeries, PlacedLabels
from meduniseg_core.dicom_objects.source import SourceSeries, source_series
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import atomic_path
from meduniseg_core.images.formats.ome_zarr import OME_ZARR_ENDING, OME_ZARR_NAMES, check_ome_zarr
from meduniseg_core.images.image import Image
from meduniseg_core.images.writing import LABEL_ENDINGS


@dataclass(frozen=True)
class DicomFormat:
    """One kind of object: its name as an option, the ending of its files, and what it is called in sentences."""

    name: str
    ending: str
    title: str
    needs_highdicom: bool

    def check(self) -> None:
        """Check that it can be written here.

        Raises:
            UsageError: The library that writes it is missing.
        """
        if self.needs_highdicom:
            require_highdicom(self.title)

    def check_image(self, image: Image) -> SourceSeries:
        """Check that an object of this kind can refer to an image, before it is segmented.

        Args:
            image: The image as it was read.

        Returns:
            The image's series.

        Raises:
            BadInputError: It was not read from DICOM, or its headers do not place it as this object needs.
        """
        source = source_series(image)
        known = source.origin.reference_uid and image.meta.get("orientation_known", True)
        placed = known and not image.meta.get("frames_over_time")
        if not placed and (len(source.headers) > 1 or self is RTSTRUCT):
            raise BadInputError(
                f"{image.name} does not say where it lies in the patient (position and frame of reference), so "
                f"{self.title} cannot be placed; save as nii.gz instead."
            )
        return source

    def names(self, path: Path) -> tuple[str, ...]:
        """List the files that a result consists of.

        Args:
            path: The file that the user asked for.

        Returns:
            Its name, and for a report that of the segmentation it refers to.
        """
        beside = path.name[: -len(self.ending)] + SEGMENTATION.ending
        return (path.name, beside) if self is REPORT else (path.name,)


SEGMENTATION = DicomFormat("dicom-seg", ".seg.dcm", "a DICOM segmentation", True)
RTSTRUCT = DicomFormat("rtstruct", ".rtstruct.dcm", "a DICOM structure set", False)
REPORT = DicomFormat("dicom-sr", ".sr.dcm", "a DICOM measurement report", True)

DICOM_FORMATS = {item.name: item for item in (SEGMENTATION, RTSTRUCT, REPORT)}
"""The objects that are written, by name."""


def dicom_format_of(path: Path) -> DicomFormat | None:
    """Find the object that a file's ending stands for.

    Args:
        path: A file.

    Returns:
        The format; None for any other ending.
    """
    name = path.name.lower()
    return next((item for item in DICOM_FORMATS.values() if name.endswith(item.ending)), None)


def result_ending(name: str) -> str:
    """The ending of the files of a format.

    Args:
        name: An ending with or without its dot, or the name of a DICOM object or of OME-Zarr.

    Returns:
        The ending with its dot.

    Raises:
        UsageError: Labels cannot be written so, or the library for it is missing.
    """
    dicom = DICOM_FORMATS.get(name.lower())
    if dicom is not None:
        dicom.check()
        return dicom.ending
    if name.lower().lstrip(".") in OME_ZARR_NAMES:
        check_ome_zarr()
        return OME_ZARR_ENDING
    dotted = "." + name.lower().lstrip(".")
    if dotted not in LABEL_ENDINGS:
        known = ", ".join((*(ending.lstrip(".") for ending in LABEL_ENDINGS), *DICOM_FORMATS))
        raise UsageError(f"Labels cannot be written as '{name}'; choose a format from {known}.")
    return dotted


def dicom_writers(parts: Sequence[LabelledSeries], path: Path) -> dict[str, Callable[[Path], object]]:
    """Make the objects of a result, ready to be written.

    Args:
        parts: The label maps of one image, each with its meaning (one per task): all go into one object.
        path: The file; its ending says which object (`DICOM_FORMATS`). A report comes with the segmentation that it
            refers to, under the same name with that one's ending.

    Returns:
        By file name, a function that writes the file to a path, atomically.

    Raises:
        UsageError: The library for it is missing.
        BadInputError: The image was not read from DICOM, its headers do not allow the object, or there is no class.
    """
    return placed_writers(parts, path)[1]


def placed_writers(
    parts: Sequence[LabelledSeries], path: Path
) -> tuple[PlacedLabels, dict[str, Callable[[Path], object]]]:
    """:func:`dicom_writers`, with the labels as they lie on the planes of their series.

    Args:
        parts: As for :func:`dicom_writers`.
        path: As for :func:`dicom_writers`.

    Returns:
        The labels with their segments, and the functions that write.

    Raises:
        UsageError: As for :func:`dicom_writers`.
        BadInputError: As for :func:`dicom_writers`.
    """
    kind = dicom_format_of(path)
    if kind is None:
        known = ", ".join(item.ending for item in DICOM_FORMATS.values())
        raise BadInputError(f"{path.name} does not end as DICOM objects do; use one of {known}.")
    kind.check()
    image = parts[0].image
    source = kind.check_image(image)
    labels = PlacedLabels.of(parts)
    if kind is RTSTRUCT:
        from meduniseg_core.dicom_objects.structure_set import structure_set

        with making(kind.title, image.name):
            return labels, {path.name: _writer(structure_set(labels, source))}
    from meduniseg_core.dicom_objects.segmentation import segmentation

    with making(kind.title, image.name):
        made = segmentation(labels, source)
        if kind is SEGMENTATION:
            return labels, {path.name: _writer(made)}
        from meduniseg_core.dicom_objects.report import measurement_report

        names = kind.names(path)
        return labels, {names[0]: _writer(measurement_report(labels, source, made)), names[1]: _writer(made)}


def _writer(dataset: Dataset) -> Callable[[Path], object]:
    def write(target: Path) -> None:
        with atomic_path(target) as temporary, making("the object", target.name):
            dataset.save_as(temporary, enforce_file_format=True)

    return write
