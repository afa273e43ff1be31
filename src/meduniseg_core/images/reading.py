"""Reading: one function for images and one for label maps, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.files import check_regular
from meduniseg_core.images.checks import brief
from meduniseg_core.images.choices import which_frame
from meduniseg_core.images.findings import merge, of_label_map
from meduniseg_core.images.formats import Format, ending_of, format_of
from meduniseg_core.images.formats.ome_zarr import OME_ZARR_ENDING
from meduniseg_core.images.formats.raw_data import reading_labels
from meduniseg_core.images.formats.slicer_segments import join_segments
from meduniseg_core.images.grid import relate, reorient_to
from meduniseg_core.images.image import Image
from meduniseg_core.images.label_record import read_provenance
from meduniseg_core.images.label_tables import table_beside
from meduniseg_core.images.upright import turned_upright

LABEL_LIMIT = 65535
"""The largest label id that 16 bits hold."""

_SCALED_IDS = 1e-3
"""How far a file with a slope may be from the id that it means: nibabel gives 1.00002 for 1 where floats were saved
with the header of an integer image."""


def read_image(
    path: str | Path | Sequence[str | Path], *, series: str | None = None, frame: int | None = None
) -> Image:
    """Read an image as ``(C, D, H, W)`` in its stored dtype, with its position in the patient (LPS, mm).

    A 2D image has D = 1; a photograph has C = 3, uint8, and is not ``physical``. ``findings`` tell what else the user
    must know; ``meta`` records the choice as "series" and "frame".

    Args:
        path: A file, a DICOM folder with one series, all folders of a series that is spread over several, or one file
            per channel in the network's order. Files of channels are stacked once they are known to lie on one grid.
        series: Which of several DICOM series in a folder to read: its UID, its number or its description.
        frame: Which of several frames to read, counted from 1: a time point, a cardiac phase, an echo, a picture of a
            cine.

    Returns:
        The image, on the grid of its file.

    Raises:
        BadInputError: The format is unknown, data are truncated or damaged, the header claims more than the file holds,
            voxels are NaN, infinite or too large for 32-bit floats, the voxel size is impossible, or the frame does not
            exist. The message names the file, the reason and the remedy.
        SeveralImagesError: There are several images to choose from (a time series, several DICOM series); ``choices``
            lists them. It is a BadInputError.
    """
    paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(item) for item in path]
    if not paths:
        raise BadInputError("No file was given to read; pass at least one path.")
    images = []
    for item in [] if _is_spread(paths) else paths:
        with _naming(item):
            images.append(_read_one(item, series, frame))
    if not images:
        from meduniseg_core.images.formats.dicom import read_spread_series

        with _naming(paths[0]):
            images = [read_spread_series(paths, series, frame)]
    image = images[0] if len(images) == 1 else stack_channels(images)
    chosen = {key: value for key, value in (("series", series), ("frame", frame)) if value is not None}
    return image.with_array(image.array, **chosen) if chosen else image


def _is_spread(paths: Sequence[Path]) -> bool:
    """Whether these are folders of one DICOM series, and not one per channel."""
    if len(paths) < 2 or not all(path.is_dir() for path in paths):
        return False
    from meduniseg_core.images.formats.dicom_spread import are_one

    return are_one(paths)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error that a reader or a library raises into one that names this file."""
    try:
        yield
    except MedUniSegError:
        raise
    except MemoryError as error:
        raise BadInputError(
            f"{path.name} does not fit into the memory that is free; crop it, or use a machine with more memory."
        ) from error
    except Exception as error:
        raise BadInputError(
            f"{path.name} cannot be read ({type(error).__name__}: {brief(error)}); copy or export it again."
        ) from error


def read_labels(path: str | Path, *, like: Image | None = None) -> Image:
    """Read a label map as ``(1, D, H, W)`` with an integer dtype; ids are the stored values.

    Names that the file gives its labels (3D Slicer's ``.seg.nrrd``), or a table beside it (`label_tables`), are in
    ``meta["class_names"]`` (id -> name), their colours in ``meta["class_colours"]``. A
    palette PNG gives its indices; whole-number floats become uint8 or uint16. A map that says how its pixels are
    rotated is turned upright; for one that does not, `place_labels` applies the rule of `upright.meet`. DICOM
    segmentations and structure sets are label maps, too; their names and colours are in ``meta``.

    Args:
        path: A file, or a DICOM folder.
        like: The image that the labels belong to, where it is known. DICOM objects are compared with it by their UIDs
            and find the distance of its planes there; contours need it, because they have no grid of their own.

    Returns:
        The label map, on the grid of its file.

    Raises:
        BadInputError: The file cannot be read (see `read_image`); it is a JPEG (its compression changes ids), has an
            alpha channel, real colour or several channels; or it holds fractional or negative values, or ids above
            65535; or it is a DICOM object of another series than ``like``.
    """
    path = Path(path)
    with _naming(path), reading_labels():
        return _read_labels(path, like)


def _read_labels(path: Path, like: Image | None) -> Image:
    check_exists(path)
    kind = "dicom" if path.is_dir() else _format_of(path)
    if kind == "dicom":
        from meduniseg_core.images.formats.dicom_label_objects import label_object_in, read_label_object

        found = label_object_in(path)
        if found is not None:
            return read_label_object(found, like)
    if kind == "jpeg":
        raise BadInputError(
            f"{path.name} is a JPEG, whose compression changes label ids; save the labels as PNG or NIfTI."
        )
    if kind == "raster":
        from meduniseg_core.images.formats.raster import read_raster_labels

        image = read_raster_labels(path)
    elif kind == "tiff":
        from meduniseg_core.images.formats.tiff import read_tiff_labels

        image = read_tiff_labels(path)
    else:
        image = _read_one(path)
    image = _with_table(_as_labels(image, path.name), path)
    if kind in ("raster", "tiff") and ending_of(path) != ".bmp":
        return image
    # a format without a place for the orientation: the JSON of `Segmentation.save` has it
    recorded = read_provenance(path) if image.is_2d else None
    return turned_upright(image, recorded.exif_orientation if recorded is not None else None, labels=True)


def check_channels(images: Sequence[Image]) -> None:
    """Check that images can be the channels of one case. Voxels are not looked at.

    Args:
        images: At least one.

    Raises:
        BadInputError: An image has several channels, or lies on another grid than the first (see `grid`; the order of
            the axes may differ).
    """
    first = images[0]
    for image in images:
        if image.channels != 1:
            raise BadInputError(
                f"{image.name} has {image.channels} channels; give one single-channel file per channel."
            )
        relation = relate(image.geometry, first.geometry).relation
        if image.physical != first.physical or relation not in ("same", "reordered"):
            raise BadInputError(
                f"{image.name} does not lie on the grid of {first.name}; resample the channels of a case onto one grid."
            )


def stack_channels(images: Sequence[Image]) -> Image:
    """Stack single-channel images into one image.

    Args:
        images: Images on one grid, in channel order.

    Returns:
        One image on the first one's grid. Different dtypes become their common one (float32 where integers and floats
        mix).

    Raises:
        BadInputError: The images cannot be one case (see `check_channels`).
    """
    check_channels(images)
    first = images[0]
    kinds = {image.array.dtype for image in images}
    dtype = kinds.pop() if len(kinds) == 1 else np.result_type(*(image.array.dtype for image in images))
    if dtype == np.float64 and not all(image.array.dtype == np.float64 for image in images):
        dtype = np.dtype(np.float32)
    turned = [first, *(reorient_to(image, first.geometry) for image in images[1:])]
    array = np.concatenate([image.array.astype(dtype, copy=False) for image in turned])
    sources = tuple(str(image.source) for image in images if image.source is not None)
    findings = merge(*(image.findings for image in images))
    return replace(first, findings=findings).with_array(array, sources=sources, dtype=str(dtype))


def _read_one(path: Path, series: str | None = None, frame: int | None = None) -> Image:
    check_exists(path)
    if path.is_dir():
        from meduniseg_core.images.formats.dicom import read_dicom_series

        return read_dicom_series(path, series, frame)
    kind = _format_of(path)
    if series is not None and kind != "dicom":
        raise BadInputError(f"{path.name} is no DICOM, and nothing else has series; leave --series out.")
    if kind == "nifti":
        from meduniseg_core.images.formats.nifti import read_nifti

        return read_nifti(path, frame)
    if kind in ("raster", "jpeg"):
        from meduniseg_core.images.formats.raster import read_raster

        if frame is not None:
            which_frame(frame, 1, path.name)
        return read_raster(path)
    if kind == "nrrd":
        from meduniseg_core.images.formats.nrrd import read_nrrd

        return read_nrrd(path, frame)
    if kind == "metaimage":
        from meduniseg_core.images.formats.metaimage import read_metaimage

        return read_metaimage(path, frame)
    if kind == "tiff":
        from meduniseg_core.images.formats.tiff import read_tiff

        return read_tiff(path, frame)
    if kind == "numpy":
        from meduniseg_core.images.formats.numpy_file import read_numpy

        return read_numpy(path, frame)
    from meduniseg_core.images.formats.dicom import read_dicom_file

    return read_dicom_file(path, series, frame)


def _format_of(path: Path) -> Format:
    """By the ending; a file without a known one may be DICOM by its content."""
    if ending_of(path) is None:
        from meduniseg_core.images.formats.dicom_source import is_dicom

        if is_dicom(path):
            return "dicom"
    return format_of(path)


def check_exists(path: Path) -> None:
    """Check that there is something to read: a folder, or an ordinary file (a pipe would block for ever).

    Args:
        path: What is to be read.

    Raises:
        BadInputError: It is not there, is neither a file nor a folder, or is an OME-Zarr.
    """
    try:
        found = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise BadInputError(f"{str(path)[:200]!r} is not a usable path ({brief(error)}); check it.") from error
    if not found:
        raise BadInputError(f"{path} does not exist; check the path.")
    if not path.is_dir():
        check_regular(path)
    if ending_of(path) == OME_ZARR_ENDING:
        raise BadInputError(f"{path.name} is an OME-Zarr, which is written here and not read; convert it to NIfTI.")


def _with_table(labels: Image, path: Path) -> Image:
    """The labels with the names and colours of a table beside the file, where it has none of its own."""
    table = None if path.is_dir() or labels.meta.get("class_names") else table_beside(path)
    if table is None:
        return labels
    return labels.with_array(labels.array, class_names=table.names, class_colours=table.colours)


def _as_labels(image: Image, name: str) -> Image:
    if "segments" in image.meta:
        image = join_segments(image)
    array = image.array
    if array.shape[0] == 3 and image.meta.get("colour") == "rgb":
        if any(not np.array_equal(array[0], array[channel]) for channel in (1, 2)):
            raise BadInputError(
                f"{name} is a colour picture, so its label ids are unknown; save it as grey with ids as values."
            )
        array = array[:1]
    if array.shape[0] != 1:
        raise BadInputError(
            f"{name} has {array.shape[0]} channels and a label map has one; join the classes into one map."
        )
    if array.dtype.kind == "f" and np.allclose(array, np.rint(array), rtol=0, atol=_SCALED_IDS):
        array = np.rint(array)
    low, high = array.min(), array.max()
    if low < 0 or high > LABEL_LIMIT:
        raise BadInputError(
            f"{name} holds values from {low} to {high}; label ids must lie between 0 and {LABEL_LIMIT}."
        )
    if array.dtype.kind == "f":
        if not np.array_equal(array, np.rint(array)):
            raise BadInputError(
                f"{name} holds fractional values, so it is not a label map; save it with whole numbers as ids."
            )
        array = array.astype(smallest_dtype(int(high)))
    meta = {**image.meta, "colour": "grey"} if "colour" in image.meta else dict(image.meta)
    return replace(image, array=array, meta=meta, findings=tuple(of_label_map(finding) for finding in image.findings))


def smallest_dtype(highest: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """Choose the dtype of a label map.

    Args:
        highest: Its largest id.

    Returns:
        uint8 for ids up to 255, else uint16.
    """
    return np.dtype(np.uint8) if highest <= 255 else np.dtype(np.uint16)
