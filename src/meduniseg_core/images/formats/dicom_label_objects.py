"""DICOM objects that hold labels: how they are recognised, and which reader reads them."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats.dicom_contours import read_contours
from meduniseg_core.images.formats.dicom_labels import References, references_of
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
    files = [path] if path.is_file() else sorted(item for item in path.iterdir() if item.is_file())
    found = [item for item in files if not item.name.startswith(".") and is_dicom(item)]
    return found[0] if len(found) == 1 and label_modality(found[0]) is not None else None


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
        if dataset is None:
            raise BadInputError(f"{path.name} is not a DICOM file; convert it or pass another file.")
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
        dataset = read_object(path)
        if dataset is None:
            raise BadInputError(f"{path.name} is not a DICOM file; convert it or pass another file.")
        return references_of(dataset)
