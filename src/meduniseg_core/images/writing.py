"""Atomic writing of label maps and images, on exactly the grid they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats import ENDINGS, ending_of
from meduniseg_core.images.formats.ome_zarr import OME_ZARR_ENDING, write_ome_zarr
from meduniseg_core.images.formats.slicer_segments import SEGMENTATION_ENDING, segment_pairs
from meduniseg_core.images.grid import place_labels, reorient_to, same_grid
from meduniseg_core.images.image import Image
from meduniseg_core.images.palette import Colour
from meduniseg_core.images.reading import LABEL_LIMIT, smallest_dtype
from meduniseg_core.images.upright import as_stored, plain, stored_orientation

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff", ".npy")
LABEL_ENDINGS = (*IMAGE_ENDINGS, SEGMENTATION_ENDING, OME_ZARR_ENDING)


def write_labels(
    labels: Image,
    path: str | Path,
    *,
    like: Image | None = None,
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, Colour] | None = None,
) -> None:
    """Write a label map. The ending gives the format: .nii.gz .nii .nrrd .mha .png .bmp .tif .tiff .npy .seg.nrrd
    .ome.zarr (a folder).

    Ids are stored as uint8, or as uint16 where one is above 255.

    Args:
        labels: The label map, ``(1, D, H, W)``.
        path: The file to write.
        like: The image that the labels belong to. They are placed on its grid (`place_labels`) and take over its
            header's geometry, bit for bit from NIfTI to NIfTI. For a photograph that is stored rotated, they are
            written on the file's own pixels, with its orientation where the format has a field for it (`upright`).
        names: The classes' names by id, for the formats that hold them (3D Slicer's .seg.nrrd, OME-Zarr).
        colours: Their colours, likewise.

    Raises:
        BadInputError: The map has several channels, or negative, fractional or too large values; it does not lie on the
            grid of ``like``; or the format is unknown or cannot hold it (PNG holds one slice).
        UnwritableError: The folder or the disk refuses the file.
        UsageError: The library for OME-Zarr is missing.
    """
    path = Path(path)
    array = labels.array
    if labels.channels != 1:
        raise BadInputError(
            f"{labels.name} has {labels.channels} channels and a label map has one; join the classes first."
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= LABEL_LIMIT):
        raise BadInputError(
            f"The labels for {path.name} run from {low} to {high}; ids must lie between 0 and {LABEL_LIMIT}."
        )
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise BadInputError(f"The labels for {path.name} hold fractional values; pass whole numbers.")
    whole = labels.with_array(array.astype(smallest_dtype(int(high))))
    if like is not None:
        whole = place_labels(whole, like)
    pairs: dict[str, str] = {}
    ending, on = check_ending(path), like if like is not None else labels
    if ending == OME_ZARR_ENDING:
        write_ome_zarr(path, as_stored(whole, stored_orientation(on)), names or {}, colours or {})
        return
    if ending == SEGMENTATION_ENDING:
        pairs = segment_pairs(whole.array[0], names or {}, colours or {})
    _write(whole, path, LABEL_ENDINGS, on, pairs)


def write_image(image: Image, path: str | Path, *, like: Image | None = None) -> None:
    """Write an image in its dtype (float16, which most formats lack, as float32). Formats are those of `write_labels`.

    Args:
        image: ``(C, D, H, W)``.
        path: The file to write.
        like: The image on whose grid, and on whose file's pixels, it is written. Without it the image is written
            upright. If ``like`` (or, without it, the image itself) was read from NIfTI and lies on the same grid, a
            NIfTI file keeps the geometry of that header.

    Raises:
        BadInputError: The image lies on another grid than ``like``, or the format is unknown or cannot hold it.
        UnwritableError: The folder or the disk refuses the file.
    """
    path = Path(path)
    if like is not None:
        image = reorient_to(image, like.geometry)
    if image.array.dtype == np.float16 and not path.name.lower().endswith(".npy"):
        image = image.with_array(image.array.astype(np.float32))
    _write(image, path, IMAGE_ENDINGS, like if like is not None else plain(image))


def check_ending(path: Path, endings: tuple[str, ...] = LABEL_ENDINGS) -> str:
    """Check that files with this ending can be written.

    Args:
        path: The file to write.
        endings: The endings to accept.

    Returns:
        The ending, in lower case.

    Raises:
        BadInputError: The ending is not one of them.
    """
    ending = ending_of(path)
    if ending not in endings:
        raise BadInputError(f"{path.name} has an ending that is not written here; use one of {' '.join(endings)}.")
    return ending


def _write(
    image: Image, path: Path, endings: tuple[str, ...], like: Image, pairs: Mapping[str, str] | None = None
) -> None:
    ending = check_ending(path, endings)
    orientation = stored_orientation(like)
    image = as_stored(image, orientation)
    array = np.ascontiguousarray(image.array)
    kind = ENDINGS[ending]
    if kind == "nifti":
        from meduniseg_core.images.formats.nifti import write_nifti

        write_nifti(path, array, image.geometry, like if same_grid(like.geometry, image.geometry) else None)
    elif kind in ("nrrd", "metaimage"):
        from meduniseg_core.images.formats.itk import write_itk

        write_itk(path, array, image.geometry, pairs)
    elif kind == "tiff":
        from meduniseg_core.images.formats.tiff import write_tiff

        write_tiff(path, array, image.geometry, image.physical, orientation)
    elif kind == "numpy":
        from meduniseg_core.images.formats.numpy_file import write_numpy

        write_numpy(path, array)
    else:
        from meduniseg_core.images.formats.raster import write_raster

        write_raster(path, array, orientation)
