"""TIFF: single pictures, multi-page stacks (pages = depth), ImageJ hyperstacks and OME-TIFF, read with tifffile."""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path
from meduniseg_core.images.checks import brief, check_channel_count, check_finite, check_numeric
from meduniseg_core.images.choices import frame_chosen, refuse_time_series, which_frame
from meduniseg_core.images.findings import Finding, orientation_unknown, pixels_not_square
from meduniseg_core.images.formats.decoding import decoded
from meduniseg_core.images.formats.quiet import quiet_libraries
from meduniseg_core.images.formats.raw_data import check_claim, check_expansion, check_memory, claimed_bytes
from meduniseg_core.images.formats.tiff_pages import check_pages
from meduniseg_core.images.formats.tiff_spacing import page_aspect, voxel_size
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image
from meduniseg_core.images.upright import TAG, orientation_in, turned_upright

# how far one byte can expand, by TIFF compression number
_EXPANSION = {1: 1, 5: 1500, 7: 1100, 8: 1032, 32773: 64, 32946: 1032}
_THROUGH_ITK = {5, 7}  # LZW and JPEG, which tifffile leaves to a package of its own
_LOSSY = {7}
_SMALL = 1 << 24
_MIN_IS_WHITE, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_OTHER_COLOURS = {5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_DAMAGE = (
    *(ValueError, OSError, zlib.error, struct.error, IndexError, KeyError, TypeError, RuntimeError, EOFError),
    *(AttributeError, ArithmeticError),
)
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # our sentence says what is damaged
_DEPTH = "ZIQ"  # tifffile's axes of pages: z, a sequence, unknown


def read_tiff(path: Path, frame: int | None = None) -> Image:
    """Read a TIFF as ``(C, D, H, W)``: samples or channels (at most 4) are C, pages or z are D.

    The image is ``physical`` only if nnU-Net's JSON beside the file gives a spacing, or OME or ImageJ metadata give a
    pixel size with a unit (dots per inch are not a size). Pages that are stored rotated are turned upright (`upright`).
    Palette images become RGB, MinIsWhite is inverted, and an opaque alpha channel is dropped.

    Args:
        path: The file.
        frame: Which point of a time series to read, from 1.

    Returns:
        The image.

    Raises:
        BadInputError: The file is truncated or damaged, holds images of several sizes, has transparent pixels, or uses
            a compression other than none, deflate, LZW, PackBits and JPEG, or colours other than RGB (YCbCr only
            within JPEG).
        SeveralImagesError: The file is a time series and ``frame`` is None, or there are more than four channels.
    """
    content = _read(path, frame)
    array, top = content.array, content.array.shape[0]
    _check_colours(content, path.name)
    colour = "rgb" if content.photometric in (_RGB, _PALETTE, _YCBCR) and top in (3, 4) else "grey"
    if content.photometric == _PALETTE:
        array, colour = _through_palette(array, content.colormap, path.name), "rgb"
    elif content.photometric == _MIN_IS_WHITE and array.dtype.kind == "u":
        white = 2 ** min(content.bits, 8 * array.dtype.itemsize) - 1
        array = (white - array.astype(np.int64)).astype(array.dtype)
    if content.alpha and top in (2, 4):
        if array.dtype.kind != "u" or (array[-1] != np.iinfo(array.dtype).max).any():
            raise BadInputError(
                f"{path.name} has transparent pixels; flatten it onto a background and save it without alpha."
            )
        array = array[:-1]
    return turned_upright(_image(path, array, content, colour), content.orientation)


def _check_colours(content: _Content, name: str) -> None:
    """BadInputError where samples mean something that is not converted here: they would be taken for RGB or grey."""
    space = _OTHER_COLOURS.get(content.photometric)
    if space is None and content.photometric == _YCBCR and content.compression not in _LOSSY:
        space = "YCbCr"  # the decoder of JPEG gives RGB
    if space is not None:
        raise BadInputError(f"{name} stores its colours as {space}, which is not read; save it as RGB.")
    if content.photometric == _MIN_IS_WHITE and content.array.dtype.kind != "u":
        raise BadInputError(
            f"{name} is stored inverted (MinIsWhite) with signed or fractional values, of which none is white; save it "
            "as MinIsBlack."
        )


def read_tiff_labels(path: Path) -> Image:
    """Read a TIFF label map as ``(1, D, H, W)`` (``(3, ...)`` for RGB).

    Ids are the stored numbers or palette indices.

    Args:
        path: The file.

    Returns:
        The label map, upright where its file gives an orientation.

    Raises:
        BadInputError: The file cannot be read (see `read_tiff`), is compressed with loss, has alpha, or is MinIsWhite
            (where 0 means the largest value).
    """
    content = _read(path)
    if content.compression in _LOSSY:
        raise BadInputError(f"{path.name} is compressed as JPEG, which changes label ids; save it without compression.")
    if content.alpha:
        raise BadInputError(
            f"{path.name} has an alpha channel, which a label map cannot have; save it as grey or palette."
        )
    if content.photometric == _MIN_IS_WHITE:
        raise BadInputError(f"{path.name} is stored inverted (MinIsWhite): its ids are unclear; save it as MinIsBlack.")
    colour = "rgb" if content.photometric == _RGB and content.array.shape[0] == 3 else "grey"
    # writers put the default in without a thought: only an orientation that differs says something of a mask
    orientation = content.orientation if content.orientation != 1 else None
    return turned_upright(_image(path, content.array, content, colour), orientation, labels=True)


def write_tiff(path: Path, array: np.ndarray, geometry: Geometry, physical: bool, orientation: int = 1) -> None:
    """Write a TIFF with deflate, atomically: uint8, uint16 and float32 as an ImageJ stack, other types as OME-TIFF.

    The voxel size is kept (in mm). TIFF has no field for the position and orientation in the patient.

    Args:
        path: The file to write.
        array: ``(C, D, H, W)``.
        geometry: The grid.
        physical: Whether the spacing is in mm.
        orientation: How viewers must turn these pixels (TIFF's field of that name, EXIF's numbers).

    Raises:
        BadInputError: The format cannot hold this dtype.
        UnwritableError: The folder or the disk refuses the file.
    """
    depth, height, width = geometry.spacing
    shared: dict[str, Any] = {"compression": "zlib"}
    if orientation != 1:
        shared["extratags"] = [(TAG, "H", 1, orientation, False)]
    metadata: dict[str, Any]
    with atomic_path(path) as temporary:
        if array.shape[:2] == (3, 1) and array.dtype == np.uint8:
            pixels = np.moveaxis(array[:, 0], 0, -1)
            tifffile.imwrite(temporary, pixels, photometric="rgb", **shared)
        elif array.dtype in (np.uint8, np.uint16, np.float32):
            metadata = {"axes": "ZCYX"} | ({"spacing": depth, "unit": "mm"} if physical else {})
            tifffile.imwrite(
                temporary,
                np.moveaxis(array, 0, 1),
                imagej=True,
                photometric="minisblack",
                resolution=(1 / width, 1 / height) if physical else None,
                metadata=metadata,
                **shared,
            )
        else:
            metadata = {"axes": "CZYX"}
            if physical:
                for axis, size in zip("ZYX", geometry.spacing, strict=True):
                    metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "mm"}
            try:
                tifffile.imwrite(temporary, array, ome=True, photometric="minisblack", metadata=metadata, **shared)
            except (ValueError, KeyError, TypeError) as error:
                raise BadInputError(
                    f"{path.name} cannot hold values of type {array.dtype}; convert them first."
                ) from error


@dataclass(frozen=True)
class _Content:
    """What a file holds: ``array`` (C, D, H, W) as stored, and what its first page says of it."""

    array: np.ndarray
    photometric: int
    compression: int
    bits: int
    alpha: bool
    colormap: np.ndarray | None
    spacing: tuple[float, float, float] | None
    orientation: int | None
    findings: tuple[Finding, ...]


def _read(path: Path, frame: int | None = None) -> _Content:
    name = path.name
    check_pages(path)
    try:
        # _multifile=False: an OME file may name other files anywhere on the disk as its planes
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            if len(tiff.series) != 1 or _is_false_pyramid(tiff.series[0]):
                raise BadInputError(f"{name} holds images of different sizes; save the wanted one alone.")
            series, page = tiff.series[0], tiff.series[0].keyframe
            _check_size(series, page, path)
            tag = page.tags.get(TAG)
            orientation = orientation_in(tag.value if tag is not None else None, name)
            through_itk = int(page.compression) in _THROUGH_ITK
            if through_itk and orientation not in (None, 1):  # ITK turns some of them
                raise BadInputError(f"{name} is stored turned and compressed; save it upright, or uncompressed.")
            array = decoded(path, lambda: _through_itk(series, page, path) if through_itk else series.asarray())
            at_time, axes, chosen = _at_time(array, series.axes, frame, name)
            arranged = check_numeric(_arrange(at_time, axes, name), name)
            spacing, findings = voxel_size(tiff, path)
            shape = pixels_not_square(name, page_aspect(page)) if spacing is None else None
            return _Content(
                array=arranged,
                photometric=int(page.photometric),
                compression=int(page.compression),
                bits=int(page.bitspersample),
                alpha=any(int(kind) in (1, 2) for kind in page.extrasamples),
                colormap=page.colormap,
                spacing=spacing,
                orientation=orientation,
                findings=(*findings, *chosen, *([] if shape is None else [shape])),
            )
    except BadInputError:
        raise
    except _DAMAGE as error:
        raise BadInputError(f"{name} is truncated, damaged or no TIFF ({brief(error)}); export it again.") from error


def _is_false_pyramid(series: Any) -> bool:
    """Whether tifffile took pages of another size, not marked as reduced copies, for levels of a pyramid."""
    return any(not page.is_reduced for level in series.levels[1:] for page in level.pages if page is not None)


def _check_size(series: Any, page: Any, path: Path) -> None:
    """Every strip or tile lies within the file, and together they can hold what the header claims."""
    limit = _EXPANSION.get(int(page.compression))
    if limit is None:
        kind = getattr(page.compression, "name", page.compression)
        raise BadInputError(f"{path.name} is compressed as {kind}; save it uncompressed or with deflate.")
    available = path.stat().st_size
    pieces: list[tuple[int, int]] = []
    for item in series.pages:
        if item is None:
            raise BadInputError(f"{path.name} misses pages that its header names; export it again.")
        offsets, counts = item.dataoffsets, item.databytecounts
        # ImageJ stacks over 4 GB, and tifffile's own, list one page and keep the rest behind it
        if any(offset <= 0 or offset + count > available for offset, count in zip(offsets, counts, strict=True)):
            raise BadInputError(
                f"{path.name} is truncated: its pixels should reach beyond its end; copy or export it again."
            )
        pieces += zip(offsets, counts, strict=True)
    if page.is_tiled:  # a tile that is wider than its bytes would give the next rows' pixels to the first
        tile = claimed_bytes(page.chunks, page.dtype.itemsize)
        if tile > _SMALL or limit == 1:
            check_claim(path.name, tile * int(page.bitspersample) // (8 * page.dtype.itemsize), max(counts), limit)
    held = _covered(pieces)
    claimed = claimed_bytes(series.shape, series.dtype.itemsize)
    if int(page.bitspersample) < 8:
        claimed = claimed * int(page.bitspersample) // 8
    if len(series.pages) == 1 and series.dataoffset is not None:
        held = available - int(series.dataoffset)
    if claimed > _SMALL or limit == 1:
        check_claim(path.name, claimed, held, limit)
    check_expansion(path.name, claimed, held)
    check_memory(claimed, path.name)


def _covered(pieces: list[tuple[int, int]]) -> int:
    """Bytes of the file that the pieces cover; where strips overlap, each byte counts once."""
    total = end = 0
    for offset, count in sorted(pieces):
        total += max(0, offset + count - max(offset, end))
        end = max(end, offset + count)
    return total


def _through_itk(series: Any, page: Any, path: Path) -> np.ndarray:
    import SimpleITK as sitk  # noqa: N813 - its usual name; imported late, it is large

    if int(page.photometric) == _PALETTE or int(page.planarconfig) != 1:
        raise BadInputError(
            f"{path.name} is compressed in a way that is not read; save it uncompressed or with deflate."
        )
    reader = sitk.ImageFileReader()
    reader.SetImageIO("TIFFImageIO")
    reader.SetFileName(str(path))
    try:
        with quiet_libraries():
            array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise BadInputError(f"{path.name} has compressed pixels that are damaged; export it again.") from error
    if array.size != int(np.prod(series.shape)) or array.dtype != series.dtype:
        raise BadInputError(
            f"{path.name} is compressed in a way that is not read; save it uncompressed or with deflate."
        )
    return np.asarray(array).reshape(series.shape)


def _at_time(array: np.ndarray, axes: str, frame: int | None, name: str) -> tuple[np.ndarray, str, tuple[Finding, ...]]:
    """The array without its time axis, of which ``frame`` (from 1) is chosen; SeveralImagesError where none is."""
    place = axes.find("T")
    count = array.shape[place] if place >= 0 else 1
    pages = max((size for axis, size in zip(axes, array.shape, strict=True) if axis in _DEPTH), default=1)
    if frame is None:
        refuse_time_series(count, name)
    elif place < 0 and pages > 1:
        raise BadInputError(
            f"{name} has {pages} pages, which are slices and no frames over time: leave the frame out, or save page "
            f"{frame} as a file of its own."
        )
    index = which_frame(1 if frame is None else frame, count, name)
    findings = () if frame is None else frame_chosen(frame, count, name)
    if place < 0:
        return array, axes, findings
    return array.take(index, axis=place), axes[:place] + axes[place + 1 :], findings


def _arrange(array: np.ndarray, axes: str, name: str) -> np.ndarray:
    """``(C, D, H, W)`` from tifffile's axes (S and C: channels; Z, I, Q: depth)."""
    kept = [(axis, size) for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YX"]
    letters = "".join(axis for axis, _ in kept)
    channel = [axis for axis in letters if axis in "SC"]
    depth = [axis for axis in letters if axis in _DEPTH]
    if len(channel) > 1 or len(depth) > 1 or set(letters) - set("SCZIQYX"):
        raise BadInputError(f"{name} has the axes {axes}, which are not read; save it as one 2D image or one stack.")
    squeezed = array.reshape([size for _, size in kept])
    order = [letters.index(axis) for axis in (*channel, *depth, "Y", "X")]
    moved = np.transpose(squeezed, order)
    shape = (1,) * (not channel) + moved.shape[: len(channel)] + (1,) * (not depth) + moved.shape[len(channel) :]
    return np.ascontiguousarray(moved.reshape(shape))


def _through_palette(array: np.ndarray, colormap: np.ndarray | None, name: str) -> np.ndarray:
    if colormap is None or array.shape[0] != 1:
        raise BadInputError(f"{name} is a palette image without a palette; export it again.")
    colours: np.ndarray = (np.asarray(colormap) >> 8).astype(np.uint8)
    if int(array.max()) >= colours.shape[1]:
        raise BadInputError(f"{name} uses colours that its palette lacks; export it again.")
    return np.ascontiguousarray(colours[:, array[0]])


def _image(path: Path, array: np.ndarray, content: _Content, colour: str) -> Image:
    check_channel_count(array.shape[0], path.name)
    check_finite(array, path.name)
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    meta: dict[str, Any] = {"format": "tiff", "dtype": str(array.dtype), "orientation_known": False}
    if shape[0] == 1 or colour == "rgb":
        meta["colour"] = colour
    findings = content.findings
    if content.spacing is not None and shape[0] > 1:
        findings += (orientation_unknown(path.name, "TIFF has no place for it"),)
    geometry = Geometry(shape, content.spacing or (1.0, 1.0, 1.0))
    return Image(array, geometry, physical=content.spacing is not None, source=path, meta=meta, findings=findings)
