"""DICOM objects that hold labels: how they are recognised, and which reader reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meduniseg_core.images.formats.dicom_contours import read_contours
from meduniseg_core.images.formats.dicom_folders import dicom_places
from meduniseg_core.images.formats.dicom_labels import References, references_of
from meduniseg_core.images.formats.dicom_origin import ORIGIN, DicomOrigin
from meduniseg_core.images.formats.dicom_segmentation import read_segmentation
from meduniseg_core.images.formats.dicom_source import is_dicom, naming, read_header, read_object
from meduniseg_core.images.image import Image

LABEL_MODALITIES = ("SEG", "RTSTRUCT")
"""The modalities of objects that hold labels."""


def label_object_in(path: Path) -> Path | None:
    """Find the DICOM object with labels that a path means.

    Args:
        path: A file, or a folder.

    Returns:
        The file, where it is a segmentation or a structure set; in a folder the only such file, where there is nothing
        else but one. None for anything else.
    """
    found: list[Path] = []
    for item in [path] if path.is_file() else sorted(path.iterdir()):
        if item.is_file() and not item.name.startswith(".") and is_dicom(item):
            found.append(item)
            if len(found) > 1:
                return None
    return found[0] if found and label_modality(found[0]) is not None else None


def label_modality(path: Path) -> str | None:
    """Tell which object with labels a file holds.

    Args:
        path: A DICOM file.

    Returns:
        "SEG" or "RTSTRUCT"; None for any other object.
    """
    with naming(path):
        header = read_header(path)
        modality = "" if header is None else str(header.get("Modality") or "")
    return modality if modality in LABEL_MODALITIES else None


def read_label_object(path: Path, like: Image | None) -> Image:
    """Read a segmentation or a structure set as a label map.

    Args:
        path: The file.
        like: The image that it belongs to. A structure set needs it, because contours have no grid.

    Returns:
        ``(1, D, H, W)``: a segmentation on the grid of its own planes, with those that were left out; contours on the
        image's grid. ``meta`` has "class_names" and "class_colours" by id; ids are the numbers of segments or regions.

    Raises:
        BadInputError: It belongs to another series than ``like``, it is damaged, or it cannot be placed.
    """
    with naming(path):
        dataset = read_object(path)
        read = read_segmentation if str(dataset.get("Modality")) == "SEG" else read_contours
        return read(dataset, path, like)


def referenced_series(path: Path) -> References:
    """Read which images an object with labels was drawn on.

    Args:
        path: The file.

    Returns:
        Its references.

    Raises:
        BadInputError: The file is damaged.
    """
    with naming(path):
        return references_of(read_object(path))


def referenced_image(references: References, images: Iterable[Image]) -> Image | None:
    """Find among images the one that labels were drawn on.

    Args:
        references: What the labels were drawn on (`referenced_series`).
        images: Images.

    Returns:
        The first of their series or with one of their instances; None where there is none.
    """
    for image in images:
        origin = image.meta.get(ORIGIN)
        if isinstance(origin, DicomOrigin) and (
            origin.series_uid in references.series
            or references.instances & {frame.instance_uid for frame in origin.frames}
        ):
            return image
    return None


def series_beside(references: References, folder: Path) -> tuple[tuple[Path, ...], str] | None:
    """Find in a folder, and below it, the series that labels were drawn on.

    Args:
        references: What the labels were drawn on (`referenced_series`).
        folder: Where to look.

    Returns:
        What `read_image` takes: paths and the series' UID; None where it is not there.
    """
    for place in dicom_places(folder):
        for path in [place.path] if place.path.is_file() else sorted(place.path.iterdir()):
            header = read_header(path) if path.is_file() and is_dicom(path) else None
            uid = "" if header is None else str(header.get("SeriesInstanceUID") or "")
            if uid in references.series:
                return place.paths, uid
    return None
