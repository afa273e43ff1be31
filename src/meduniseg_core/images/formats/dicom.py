"""DICOM: a folder with one series, or a single file. Files are recognised by content, not by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import check_finite, check_spacing
from meduniseg_core.images.findings import Finding, merge, pixels_not_square
from meduniseg_core.images.formats.dicom_choice import Source, choose, is_directory
from meduniseg_core.images.formats.dicom_codec import FrameDecoder
from meduniseg_core.images.formats.dicom_files import add_file
from meduniseg_core.images.formats.dicom_folders import dicom_places
from meduniseg_core.images.formats.dicom_origin import ORIGIN, origin_of
from meduniseg_core.images.formats.dicom_pixels import read_planes
from meduniseg_core.images.formats.dicom_slices import Slice
from meduniseg_core.images.formats.dicom_spacing import spacing_finding
from meduniseg_core.images.formats.dicom_spread import joined_finding, source_in
from meduniseg_core.images.formats.dicom_stack import stack_geometry
from meduniseg_core.images.formats.dicom_suv import as_suv
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

_NAMED = 8  # subfolders that an error names at most


def read_dicom_series(folder: Path, series: str | None = None, frame: int | None = None) -> Image:
    """Read one series of a folder as ``(1, D, H, W)`` (C = 3 for colour), sorted by position, in HU or stored units.

    The slices of a series share a series UID and a size, and nearly share orientation and pixel spacing. Objects that
    are not images (segmentations, doses, reports) and pictures without a position do not count; a finding says that
    they were left out. A tilted gantry gives a sheared grid (``meta["sheared"]``), which `resample_to_orthonormal`
    straightens. A folder without DICOM files of its own is searched for one image in its subfolders.

    Args:
        folder: The folder.
        series: Which series to read, where there are several: its UID, its number, its description, or ``#1``, ``#2``,
            ... as the error lists them.
        frame: Which volume to read, counted from 1, where the series holds several (time points, phases, echoes).

    Returns:
        The image.

    Raises:
        BadInputError: There are no images, slices are missing or unevenly spaced (one lies more than 5 % of the slice
            distance out of place), several slices lie at one place, or a file is truncated. The message names the
            folder.
        SeveralImagesError: There are several series or volumes to choose from.
    """
    source = source_in([folder])
    if source.slices or (source.others and not is_directory(source)):
        return _read(source, series, frame, folder)
    return _read_below(folder, series, frame)


def _read_below(folder: Path, series: str | None, frame: int | None) -> Image:
    """The only image in subfolders of ``folder``, which is said; BadInputError names what there is where it is not."""
    places = dicom_places(folder)
    if not places:
        raise BadInputError(f"{folder} holds no DICOM images, nor does a folder below it; pass the folder of a series.")
    if len(places) > 1:
        names = ", ".join(str(place.path.relative_to(folder)) for place in places[:_NAMED])
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        raise BadInputError(f"{folder} holds {len(places)} DICOM images in folders below it ({names}{more}); pass one.")
    place = places[0]
    if place.fault is not None:
        raise place.fault
    if place.more:
        return read_spread_series(place.paths, series, frame)
    read = read_dicom_series if place.path.is_dir() else read_dicom_file
    image = read(place.path, series, frame).with_findings(*place.findings)
    text = f"{folder.name}: the image in its subfolder {place.path.relative_to(folder)} is read."
    return image.with_findings(Finding("slices_chosen", text, "info"))


def read_spread_series(folders: Sequence[Path], series: str | None = None, frame: int | None = None) -> Image:
    """Read one series whose slices lie in several folders, as `read_dicom_series` does.

    Args:
        folders: All of its folders (`dicom_spread.are_one`).
        series: See `read_dicom_series`.
        frame: See `read_dicom_series`.

    Returns:
        The image; a finding names the folders.

    Raises:
        BadInputError: See `read_dicom_series`.
    """
    image = _read(source_in(folders), series, frame, folders[0])
    sources = tuple(str(folder) for folder in folders)
    return image.with_array(image.array, sources=sources).with_findings(joined_finding(folders))


def read_dicom_file(path: Path, series: str | None = None, frame: int | None = None) -> Image:
    """Read one DICOM file as ``(C, D, H, W)``: D = 1 for an X-ray, a photograph or one slice.

    A multi-frame file is a volume if its frames have positions (enhanced CT, MR, PET). Otherwise (an ultrasound cine,
    say) it is a stack of its frames in their order, which a finding says; ``meta["frames_over_time"]`` tells whether
    they follow each other in time. ``physical`` is False where the file gives no pixel spacing.

    Args:
        path: The file.
        series: Which volume to read, where the file holds several (echoes, time points); see `read_dicom_series`.
        frame: The number of that volume, from 1, or of one picture of a stack over time.

    Returns:
        The image.

    Raises:
        BadInputError: The file is not a DICOM image, or cannot be read (see `read_dicom_series`).
        SeveralImagesError: There are several volumes to choose from.
    """
    source = Source(path.name)
    if not add_file(source, path):
        raise BadInputError(f"{path.name} is not a DICOM image; convert it or pass another file.")
    if is_directory(source):
        return read_dicom_series(path.absolute().parent, series, frame)
    return _read(source, series, frame, path)


def _read(source: Source, series: str | None, frame: int | None, path: Path) -> Image:
    chosen, findings = choose(source, series, frame)
    order, geometry, placement = stack_geometry(chosen, path.name)
    ordered = [chosen[position] for position in order]
    _check_scaled_alike(ordered, path.name)
    sizes = {(item.spacing, item.spacing_source): None for item in ordered}
    of_size = [spacing_finding(*size, path.name) for size in sizes][:1]
    if chosen[0].spacing is None:
        of_size.append(pixels_not_square(path.name, chosen[0].aspect))
    found = merge(findings, (item for item in of_size if item is not None), placement)
    return _image(ordered, geometry, path, found)


def _check_scaled_alike(slices: Sequence[Slice], name: str) -> None:
    """BadInputError where some slices say how their values are scaled and others do not."""
    lost = next((item for item in slices if item.rescale is None), None)
    if lost is not None and {item.rescale for item in slices} - {None, (1.0, 0.0)}:
        raise BadInputError(
            f"{name}: {lost.name} does not say how its values are scaled (Rescale Slope and Intercept), and other "
            "slices do; export the series again."
        )


def _image(slices: Sequence[Slice], geometry: Geometry, source: Path, findings: tuple[Finding, ...]) -> Image:
    first = slices[0]
    with FrameDecoder() as decoder:
        planes = read_planes(slices, decoder)
    if len({plane.shape[0] for plane in planes}) > 1:
        raise BadInputError(f"{source} mixes colour and grey slices; put each kind into a folder of its own.")
    # a series whose slices differ in type (per-slice scaling) takes the common one, float32 where any is
    dtype = np.dtype(np.float32) if any(plane.dtype.kind == "f" for plane in planes) else np.result_type(*planes)
    array = np.empty((planes[0].shape[0], *geometry.shape), dtype=dtype)
    planes.reverse()
    for place in range(len(slices)):
        array[:, place] = planes.pop()  # freed one after the other
    suv = False
    if first.modality == "PT":
        array, suv, found = as_suv(array, first.path, source.name)
        findings = (*findings, found)
    check_finite(array, source.name)
    check_spacing(geometry.spacing, source.name)
    stack = any(finding.code == "frames_as_stack" for finding in findings)
    meta: dict[str, Any] = {
        "format": "dicom",
        "dtype": str(array.dtype),
        "series_uid": first.uid,
        "series_number": first.number,
        "series_description": first.description,
        "modality": first.modality,
        "sheared": not geometry.is_orthonormal(),
        "orientation_known": first.orientation is not None and not first.in_volume,
        "frames_over_time": stack and first.over_time,
        ORIGIN: origin_of(slices, geometry),
    }
    if suv:
        meta["suv"] = True
    if geometry.shape[0] == 1 or stack:
        meta["colour"] = "rgb" if array.shape[0] == 3 else "grey"
    return Image(array, geometry, physical=first.spacing is not None, source=source, meta=meta, findings=findings)
