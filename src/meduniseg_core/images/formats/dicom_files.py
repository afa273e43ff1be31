"""Collecting the files of a DICOM source."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.errors import BadInputError
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
        BadInputError: The file is empty or damaged, or breaks off before it says which series it belongs to: a slice
            must not be mistaken for a report and vanish from its series.
    """
    with naming(path):
        dataset = read_header(path)
        if dataset is None:
            if path.stat().st_size == 0:
                raise BadInputError(f"{path.name} is empty; copy or export it again.")
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
