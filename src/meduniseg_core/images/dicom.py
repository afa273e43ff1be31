"""DICOM: a folder with one series of slices, or a single 2D file. Files are known by their content, not their names."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import brief, check_finite, check_spacing
from meduniseg_core.images.dicom_pixels import read_pixels
from meduniseg_core.images.dicom_slices import Slice, slice_of, stack_geometry
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    BytesLengthException,
)


def read_dicom_series(folder: Path, series: str | None = None) -> Image:
    """Read the one series in ``folder`` as ``(1, D, H, W)`` (C = 3 for colour): sorted by position, HU or stored units.

    Slices of one series have the same series UID, orientation, size and pixel spacing. Where there are several series,
    ``series`` picks one: its UID, its number, its description, or ``#1``, ``#2``, ... as the error lists them. A tilted
    gantry gives a sheared grid, kept in the geometry (``meta["sheared"]``); ``resample_to_orthonormal`` straightens it.

    Raises BadInputError naming the folder for: no images, several series, missing slices, uneven distances (a slice
    more than 5 % of the distance out of place), several slices at one place, multi-frame files, truncated files.
    """
    slices = [found for path in sorted(folder.iterdir()) if (found := _header(path)) is not None]
    if not slices:
        raise BadInputError(f"{folder} holds no DICOM images; pass the folder that directly holds a series' files.")
    chosen = _choose(_groups(slices), series, folder)
    order, geometry = stack_geometry(chosen, folder.name)
    ordered = [chosen[position] for position in order]
    return _read(ordered, geometry, folder)


def read_dicom_file(path: Path) -> Image:
    """Read one single-frame DICOM file (an X-ray, a photograph, one slice) as ``(C, 1, H, W)``.

    ``physical`` is False where the file gives no pixel spacing. Raises BadInputError as :func:`read_dicom_series` does.
    """
    found = _header(path)
    if found is None:
        raise BadInputError(f"{path.name} is not a DICOM image; convert it or pass another file.")
    _, geometry = stack_geometry([found], path.name)
    return _read([found], geometry, path)


def _header(path: Path) -> Slice | None:
    """What places a file among others, or None where it is no DICOM image (a report, a DICOMDIR, any other file)."""
    if not path.is_file() or path.name.startswith("."):
        return None
    with _naming(path):
        return _place(path)


def _place(path: Path) -> Slice | None:
    dataset = _dataset(path, pixels=False)
    if dataset is None:
        if path.stat().st_size == 0:
            raise BadInputError(f"{path.name} is empty; copy or export it again.")
        return None
    kind = dataset.file_meta.get("MediaStorageSOPClassUID")
    if kind == _DIRECTORY:
        return None
    if "Rows" not in dataset or "Columns" not in dataset:
        # a cut-off slice must not vanish from its series as if it were a report
        if kind is None or "Image Storage" in UID(kind).name:
            raise BadInputError(f"{path.name} is truncated: its header breaks off; copy or export it again.")
        return None
    return slice_of(dataset, path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name ``path`` in whatever pydicom raises while it is used: it interprets elements only when they are asked for.

    Its remarks on values outside the standard, of which real files are full, are not passed on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _DAMAGE as error:
            raise BadInputError(f"{path.name} is truncated or damaged ({brief(error)}); copy it again.") from error


def _dataset(path: Path, pixels: bool) -> Dataset | None:
    """The file's data set, without its pixels or with them; None where it is not DICOM."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError:
        return None


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: dict[tuple[Any, ...], list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.key, []).append(item)
    return list(groups.values())


_LISTED = 12  # series that an error lists at most


def _choose(groups: list[list[Slice]], series: str | None, folder: Path) -> list[Slice]:
    if series is None:
        if len(groups) == 1:
            return groups[0]
        raise BadInputError(
            f"{folder} holds {len(groups)} series ({_listing(groups)}); pick one with --series (Python: series=...)."
        )
    matching = [
        group
        for number, group in enumerate(groups, start=1)
        if series in (f"#{number}", group[0].uid, group[0].number, group[0].description)
    ]
    if len(matching) != 1:
        many = "no series" if not matching else "several series"
        raise BadInputError(f"{folder} holds {many} '{series}'; it holds: {_listing(groups)}.")
    return matching[0]


def _listing(groups: list[list[Slice]]) -> str:
    lines = [
        f"#{number} number {group[0].number or '-'} '{group[0].description}', {len(group)} images of "
        f"{group[0].rows}x{group[0].columns}, UID {group[0].uid or '-'}"
        for number, group in enumerate(groups, start=1)
    ]
    more = len(lines) - _LISTED
    return "; ".join(lines[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _read(slices: list[Slice], geometry: Geometry, source: Path) -> Image:
    first = slices[0]
    planes: list[np.ndarray] = []
    for item in slices:
        with _naming(item.path):
            dataset = _dataset(item.path, pixels=True)
            if dataset is None:
                raise BadInputError(f"{item.path.name} changed while it was read; try again.")
            planes.append(read_pixels(dataset, item.path))
    channels = {plane.shape[0] for plane in planes}
    if len(channels) > 1:
        raise BadInputError(f"{source} mixes colour and grey slices; put each kind into a folder of its own.")
    # a series whose slices differ in type (per-slice scaling) takes the common one, float32 where any is
    dtype = np.dtype(np.float32) if any(plane.dtype.kind == "f" for plane in planes) else np.result_type(*planes)
    array = np.stack([plane.astype(dtype, copy=False) for plane in planes], axis=1)
    check_finite(array, source.name)
    check_spacing(geometry.spacing, source.name)
    meta: dict[str, Any] = {
        "format": "dicom",
        "dtype": str(array.dtype),
        "series_uid": first.uid,
        "series_number": first.number,
        "series_description": first.description,
        "modality": first.modality,
        "sheared": not geometry.is_orthonormal(),
        "orientation_known": first.orientation is not None,
    }
    if geometry.shape[0] == 1:
        meta["colour"] = "rgb" if array.shape[0] == 3 else "grey"
    return Image(array, geometry, physical=first.spacing is not None, source=source, meta=meta)
