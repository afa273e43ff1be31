"""DICOM series in a download from an archive: which folders hold them, found by one header of each kind of file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from meduniseg_core.conversion.source import Tree
from meduniseg_core.images.formats.dicom_source import naming, read_header


@dataclass(frozen=True)
class Series:
    """One kind of DICOM object in a folder: a series of slices, or an object such as a segmentation."""

    folder: Path
    first: Path
    files: tuple[Path, ...]
    modality: str
    uid: str
    description: str


def series_in(tree: Tree, names: Iterable[str]) -> list[Series]:
    """Sort files into series, reading one header for each kind of name in each folder.

    A folder of an archive's download holds one series. Some hold the objects that belong to it, too (``RTSS.dcm``
    beside ``IMG0001.dcm``): files whose names differ by more than their numbers.

    Args:
        tree: The download.
        names: Files of it; those that are not DICOM are passed over.

    Returns:
        The series, in the order of their folders.

    Raises:
        BadInputError: A header cannot be read.
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        kinds.setdefault((str(path.parent), re.sub(r"\d+", "", path.name)), []).append(name)
    found = []
    for members in kinds.values():
        first = tree.path(members[0])
        header = read_header(first)
        if header is None:
            continue
        files = tuple(tree.path(member) for member in members)
        with naming(first):
            modality, uid, description = (
                str(header.get(keyword, "")) for keyword in ("Modality", "SeriesInstanceUID", "SeriesDescription")
            )
        found.append(Series(first.parent, first, files, modality, uid, description))
    return found
