"""PNG, BMP and JPEG: 2D images without a size in mm (``physical`` False), read with Pillow.

Pillow silently changes values in two cases that matter here: it cuts 16-bit colour PNG to 8 bits, and stretches grey
PNG of 2 or 4 bits to 0..255. The first is therefore read through SimpleITK, and the second is undone for labels.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, open_regular
from meduniseg_core.images.checks import brief
from meduniseg_core.images.findings import pixels_not_square
from meduniseg_core.images.formats.raw_data import DEFLATE_LIMIT, Bounded, check_claim, check_expansion
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image
from meduniseg_core.images.upright import TAG, orientation_in, turned_upright

_PILLOW_NAMES = {"PNG", "BMP", "JPEG", "MPO"}
_GREY_MODES = {"1", "L", "I;16", "I;16B", "I;16L", "I"}
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, IndexError, KeyError, TypeError, EOFError, AssertionError)
_RESOLUTIONS = (0x011A, 0x011B)  # EXIF's XResolution and YResolution
_JPEG_LIMIT = 2048  # a bit for a block of 8x8, at half resolution for two of three channels, is 1024: twice that
MAX_PIXELS = 500_000_000
"""Larger pictures do not fit into memory several times over; they are refused before they are unpacked."""


def read_raster(path: Path) -> Image:
    """Read a PNG, BMP or JPEG as ``(C, 1, H, W)``: C = 3 for colour, else 1; uint8 or uint16 as stored.

    A picture that is stored rotated is turned upright by its EXIF orientation (`upright`). Pixels that are not square
    by its header are read as stored, with the finding "pixels_not_square". Palette images become RGB (grey if the
    palette is grey), CMYK becomes RGB, and an opaque alpha channel is dropped.

    Args:
        path: The file.

    Returns:
        The upright image.

    Raises:
        BadInputError: The file is damaged or really of another kind, an animation, too large, or has transparent
            pixels.
    """
    with _opened(path) as picture:
        array, colour = _values(picture, path)
        meta: dict[str, Any] = {"format": str(picture.format).lower(), "dtype": str(array.dtype), "colour": colour}
        orientation = _orientation(picture, path)
        finding = pixels_not_square(path.name, _pixel_aspect(picture))
    image = _image(array, path, meta)
    return turned_upright(image if finding is None else image.with_findings(finding), orientation)


def read_raster_labels(path: Path) -> Image:
    """Read a PNG or BMP label map as ``(1, 1, H, W)``.

    Ids are the stored numbers: palette indices, grey values (1 to 16 bits), or RGB whose three channels are equal.

    Args:
        path: The file.

    Returns:
        The label map, upright where its file gives an orientation.

    Raises:
        BadInputError: The file is damaged or really a JPEG, or it has alpha or real colour, from which ids could only
            be guessed.
    """
    with _opened(path) as picture:
        if picture.format in ("JPEG", "MPO"):
            raise BadInputError(f"{path.name} is really a JPEG, whose compression changes label ids; save it as PNG.")
        if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or (
            picture.mode != "P" and "transparency" in picture.info
        ):
            raise BadInputError(
                f"{path.name} has an alpha channel, which a label map cannot have; save it as grey or palette."
            )
        depth, kind = _png_depth(path), str(picture.format).lower()
        if picture.mode == "P":
            array = np.array(picture)[None]
        elif picture.mode in _GREY_MODES:
            array = _unstretched(np.array(picture), picture.mode, depth)[None]
        else:
            array, _ = _values(picture, path)
            if any(not np.array_equal(array[0], other) for other in array[1:]):
                raise BadInputError(
                    f"{path.name} is a colour picture, so its label ids are unknown; "
                    "save it as grey or palette with ids as values."
                )
            array = array[:1]
        orientation = _orientation(picture, path)
    labels = _image(array, path, {"format": kind, "dtype": str(array.dtype), "colour": "grey"})
    return turned_upright(labels, orientation, labels=True)


def write_raster(path: Path, array: np.ndarray, orientation: int = 1) -> None:
    """Write a PNG or BMP, losslessly and atomically.

    Args:
        path: The file to write.
        array: ``(1 or 3, 1, H, W)``, uint8; or uint16 with one channel (PNG only).
        orientation: The EXIF orientation of these pixels; a BMP has no field for it.

    Raises:
        BadInputError: The format cannot hold the array.
        UnwritableError: The folder or the disk refuses the file.
    """
    if array.shape[1] != 1:
        raise BadInputError(f"{path.name} cannot hold {array.shape[1]} slices; write .nii.gz, .nrrd, .mha or .tif.")
    if array.shape[0] not in (1, 3) or (array.dtype != np.uint8 and array.shape[0] != 1):
        raise BadInputError(f"{path.name} cannot hold {array.shape[0]} channels of {array.dtype}; write .tif or .nrrd.")
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)) or (
        array.dtype == np.uint16 and not path.name.lower().endswith(".png")
    ):
        raise BadInputError(f"{path.name} cannot hold values of type {array.dtype}; write .tif or .nii.gz.")
    flat = array[0, 0] if array.shape[0] == 1 else np.moveaxis(array[:, 0], 0, -1)
    picture = PillowImage.fromarray(np.ascontiguousarray(flat))
    kind = "BMP" if path.name.lower().endswith(".bmp") else "PNG"
    options: dict[str, Any] = {}
    if orientation != 1 and kind == "PNG":
        exif = PillowImage.Exif()
        exif[TAG] = orientation
        options["exif"] = exif
    with atomic_path(path) as temporary:
        picture.save(temporary, format=kind, **options)


class _opened:  # noqa: N801 - used as a function
    """Open a picture, refuse what is not one, and name the file in whatever goes wrong while it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> PillowImage.Image:
        path = self._path
        self._stream = open_regular(path)
        self._quiet.__enter__()
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata and on size; size is judged below
        try:
            picture = PillowImage.open(cast(IO[bytes], Bounded(self._stream, path.stat().st_size)))
            if picture.format not in _PILLOW_NAMES:
                raise BadInputError(f"{path.name} is really a {picture.format} file; convert it to PNG.")
            if picture.width * picture.height > MAX_PIXELS:
                raise BadInputError(
                    f"{path.name} has {picture.width}x{picture.height} pixels; crop it or scale it down."
                )
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise BadInputError(f"{path.name} is an animation; save the wanted frame as a file of its own.")
            self._check_claim(picture)
            picture.load()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return picture

    def _check_claim(self, picture: PillowImage.Image) -> None:
        depth = _png_depth(self._path)
        pixels, held = picture.width * picture.height, self._path.stat().st_size
        check_expansion(self._path.name, pixels * len(picture.getbands()), held)
        if depth is not None:
            check_claim(self._path.name, pixels * depth // 8, held, DEFLATE_LIMIT)
        elif picture.format in ("JPEG", "MPO"):
            check_claim(self._path.name, pixels * len(picture.getbands()), held, _JPEG_LIMIT)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._quiet.__exit__(None, None, None)
        self._stream.close()
        if isinstance(error, PillowImage.DecompressionBombError):
            raise BadInputError(f"{self._path.name} has too many pixels; crop it or scale it down.") from error
        if isinstance(error, UnidentifiedImageError):
            raise BadInputError(
                f"{self._path.name} is not a picture that can be read; export it again as PNG."
            ) from error
        if isinstance(error, _DAMAGE):
            raise BadInputError(
                f"{self._path.name} is truncated or damaged ({brief(error)}); copy or export it again."
            ) from error


def _orientation(picture: PillowImage.Image, path: Path) -> int | None:
    return orientation_in(picture.getexif().get(TAG), path.name)


def _pixel_aspect(picture: PillowImage.Image) -> float:
    """A pixel's height over its width, from PNG's pHYs, JFIF's density, EXIF or BMP's header; 1 where none says."""
    stated = picture.info.get("dpi") or picture.info.get("aspect")  # PNG with and without a unit of length, and BMP
    if picture.format in ("JPEG", "MPO"):  # of which Pillow gives one number, or none where there is no unit
        stated = picture.info.get("jfif_density") or [picture.getexif().get(tag, 1) for tag in _RESOLUTIONS]
    try:
        across, down = (float(value) for value in stated or (1, 1))
        return across / down
    except (TypeError, ValueError, ArithmeticError):
        return 1.0


def _values(picture: PillowImage.Image, path: Path) -> tuple[np.ndarray, str]:
    """``(C, H, W)`` and whether it is "rgb" or "grey"."""
    if _png_depth(path) == 16 and picture.mode not in _GREY_MODES:
        return _without_alpha(_through_itk(path), path.name)
    if picture.mode in _GREY_MODES and "transparency" not in picture.info:
        array = np.array(picture)
        if array.dtype.kind == "b":
            array = array.astype(np.uint8) * np.uint8(255)
        if array.dtype.byteorder == ">" or array.dtype == np.int32:
            array = array.astype(np.uint16)
        return array[None], "grey"
    if picture.has_transparency_data:
        return _without_alpha(np.moveaxis(np.array(picture.convert("RGBA")), -1, 0), path.name)
    rgb = np.moveaxis(np.array(picture.convert("RGB")), -1, 0)
    if picture.mode == "P" and np.array_equal(rgb[0], rgb[1]) and np.array_equal(rgb[0], rgb[2]):
        return rgb[:1], "grey"
    return rgb, "rgb"


def _without_alpha(array: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Drop the last of 2 or 4 channels, which must be opaque everywhere; RGBA of a grey picture becomes grey."""
    if array.shape[0] in (2, 4):
        if (array[-1] != np.iinfo(array.dtype).max).any():
            raise BadInputError(
                f"{name} has transparent pixels; flatten it onto a background and save it without alpha."
            )
        array = array[:-1]
    if array.shape[0] == 1:
        return array, "grey"
    return array, "rgb"


def _through_itk(path: Path) -> np.ndarray:
    import SimpleITK as sitk  # noqa: N813 - its usual name; imported late, it is large

    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _png_depth(path: Path) -> int | None:
    """Bits per sample in a PNG's header; None for other formats."""
    with open_regular(path) as stream:
        start = stream.read(26)
    return start[24] if start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) == 26 else None


def _unstretched(array: np.ndarray, mode: str, depth: int | None) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if mode == "L" and depth in (2, 4):
        return array // np.uint8(255 // (2**depth - 1))
    return array.astype(np.uint16) if array.dtype.itemsize > 1 else array


def _image(array: np.ndarray, path: Path, meta: dict[str, Any]) -> Image:
    stacked = np.ascontiguousarray(array)[:, None]
    shape = (1, int(stacked.shape[2]), int(stacked.shape[3]))
    return Image(stacked, Geometry(shape, (1.0, 1.0, 1.0)), physical=False, source=path, meta=meta)
