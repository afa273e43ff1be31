"""Collecting the files of a DICOM source."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats import ENDINGS, ending_of
from meduniseg_core.images.formats.dicom_choice import Source, is_no_image
from meduniseg_core.images.formats.dicom_slices import Slice, series_of, slices_of
from meduniseg_core.images.formats.dicom_source import class_of, naming, read_header


def add_file(source: Source, path: Path) -> bool:
    """Add what a file holds to a source.

    Args:
        source: The source to add to.
        path: The file.

    Returns:
        False where the file is not DICOM.

    Raises:
        BadInputError: The file is empty or damaged, is named as DICOM and holds something else (the page of a failed
            download), or breaks off before it says which series it belongs to: a slice must not vanish from its series.
    """
    with naming(path):
        dataset = read_header(path)
        if dataset is None:
            if path.stat().st_size == 0:
                raise BadInputError(f"{path.name} is empty; copy or export it again.")
            if is_named_as_dicom(path):
                raise BadInputError(
                    f"{path.name} is not a DICOM image, though it is named as one; copy or export it again, or take it "
                    "out of the folder."
                )
            return False
        kind = class_of(dataset)
        other = Slice(path, **series_of(dataset, path))
        if is_no_image(other.kind, other.modality):
            source.others.append(other)
            return True
        if "Rows" not in dataset or "Columns" not in dataset:
            if kind is None or "Image Storage" in kind.name:
                raise BadInputError(f"{path.name} is truncated: its header breaks off; copy or export it again.")
            source.others.append(other)
            return True
    source.slices.extend(slices_of(dataset, path))
    return True


def is_named_as_dicom(path: Path) -> bool:
    """Say whether a file has an ending of DICOM's.

    Args:
        path: The file.

    Returns:
        True for ``.dcm`` and the like.
    """
    ending = ending_of(path)
    return ending is not None and ENDINGS[ending] == "dicom"
