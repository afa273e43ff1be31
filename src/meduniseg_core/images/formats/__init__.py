"""What a file's name says: its format, by the ending alone (upper and lower case are the same), and its channel."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Literal

from meduniseg_core.errors import BadInputError

Format = Literal["nifti", "nrrd", "metaimage", "dicom", "raster", "jpeg", "tiff", "numpy", "ome-zarr"]

ENDINGS: dict[str, Format] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".seg.nrrd": "nrrd",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".seg.dcm": "dicom",
    ".rtstruct.dcm": "dicom",
    ".sr.dcm": "dicom",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".png": "raster",
    ".bmp": "raster",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".npy": "numpy",
    ".npz": "numpy",
    ".ome.zarr": "ome-zarr",
}
"""Every ending that is known; the longest comes first where one ends another. OME-Zarr is written only."""

PHOTOGRAPH_FORMATS: frozenset[Format] = frozenset({"raster", "jpeg", "tiff"})

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$", re.DOTALL)


def ending_of(path: Path) -> str | None:
    """Find the known ending of a path.

    Args:
        path: A file.

    Returns:
        The ending in lower case (``.nii.gz`` counts as one); None where it is not known.
    """
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and len(name) > len(ending)), None)


def format_of(path: Path) -> Format:
    """Find the format of a path.

    Args:
        path: A file.

    Returns:
        The format that its ending means.

    Raises:
        BadInputError: The ending is not known; the message lists those that are.
    """
    ending = ending_of(path)
    if ending is None:
        readable = " ".join(ending for ending in ENDINGS if ending.count(".") == 1 or ending == ".nii.gz")
        raise BadInputError(f"{path.name} has an ending that is not read here; convert it to one of {readable}.")
    return ENDINGS[ending]


def stem_of(path: Path) -> str:
    """Remove the known ending from a path's name.

    Args:
        path: A file.

    Returns:
        The name without its ending: ``a.b.nii.gz`` -> ``a.b``. A name without a known ending stays whole.
    """
    ending = ending_of(path)
    return path.name if ending is None else path.name[: -len(ending)]


def composed(name: str) -> str:
    """Encode a name's accents in one way.

    Args:
        name: The name of a file or case. Archives packed on macOS hold letter and accent as two characters.

    Returns:
        The name with each accented letter as one character (NFC): equal for names that look equal.
    """
    return unicodedata.normalize("NFC", name)


def channel_of(stem: str) -> tuple[str, int | None]:
    """Split a file's name into case and channel.

    Args:
        stem: The name without its ending.

    Returns:
        The case and the channel's number; the whole name and None where it has no number.
    """
    match = _CHANNEL.match(stem)
    return (match["case"], int(match["channel"])) if match else (stem, None)
