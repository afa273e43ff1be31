"""NIfTI-1 and NIfTI-2 (``.nii``, ``.nii.gz``): the header is checked against the file before a voxel is read.

nibabel interprets and writes headers. Its own loading is not used, because it repairs headers silently (a voxel size of
0 becomes 1) and trusts their sizes. NIfTI's world is RAS; ours is LPS, so x and y change sign.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path
from meduniseg_core.images.checks import (
    brief,
    check_affine,
    check_channel_count,
    check_finite,
    check_numeric,
    check_spacing,
)
from meduniseg_core.images.choices import frame_chosen, which_frame
from meduniseg_core.images.findings import Finding, header_mended, orientation_unknown
from meduniseg_core.images.formats.nifti_mending import mend_header
from meduniseg_core.images.formats.nifti_places import places_that_differ
from meduniseg_core.images.formats.raw_data import (
    DEFLATE_LIMIT,
    check_claim,
    claimed_bytes,
    open_maybe_gzip,
    read_exactly,
    read_to_end,
    skip,
)
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: unknown (taken as mm), m, mm, um
_OFFSET_LIMIT = 1 << 26  # bytes of header extensions that are passed over
_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def read_nifti(path: Path, frame: int | None = None) -> Image:
    """Read a NIfTI file as ``(C, D, H, W)``: W is NIfTI's axis i, H its j, D its k, C its fourth axis (at most 4).

    The stored dtype is kept; where the header scales values (``scl_slope``, ``scl_inter``), the result is float32. The
    affine is the sform, else the qform. If both codes are 0, it is nibabel's base affine, with
    ``meta["orientation_known"] = False`` and the finding "orientation_unknown". Units of m or um become mm. Faults that
    every reader corrects alike (`nifti_mending`) give the finding "header_mended".

    Args:
        path: The file.
        frame: Which volume along the fourth axis to read, from 1; None for all.

    Returns:
        The image.

    Raises:
        BadInputError: Data are truncated, the header claims more than the file holds, the voxel size is impossible, the
            orientation is degenerate, or voxels are NaN, infinite or too large to compute with.
        SeveralImagesError: There are more than four volumes to choose from.
    """
    name = path.name
    stream, packed = open_maybe_gzip(path)
    with stream:
        header = _read_header(stream, name)
        mended = mend_header(header)
        spatial, count, dtype = _layout(header, name)
        if frame is None:
            check_channel_count(count, name)
        first, channels = (0, count) if frame is None else (which_frame(frame, count, name), 1)
        affine = _affine(header, name)  # before any voxel: a header that cannot be costs nothing
        offset, guessed = _data_offset(header, name)
        volume = claimed_bytes(spatial, dtype.itemsize)
        size, after = volume * channels, volume * (count - first - channels)
        limit = DEFLATE_LIMIT if packed else 1
        check_claim(name, offset + volume * count, path.stat().st_size, limit)
        skip(stream, offset - header.sizeof_hdr + volume * first, name)
        data = read_exactly(stream, size, name)
        skip(stream, after, name)
        left = max(0, path.stat().st_size - offset - volume * count)
        if guessed:
            read_to_end(stream, 0, name)  # only where every byte is accounted for is there no doubt where voxels begin
            mended.append(f"its voxels were said to begin at byte 0 and begin at {offset}")
        elif packed:
            left = read_to_end(stream, volume * count + (1 << 20), name)
    array = _arrange(data, dtype, (channels, *reversed(spatial)))
    array, scaled = _scale(check_numeric(array, name), header, name)
    check_finite(array, name)
    geometry = Geometry.from_affine(affine, (spatial[2], spatial[1], spatial[0]))
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    meta: dict[str, Any] = {
        "format": "nifti",
        "dtype": str(dtype.newbyteorder("=")) if dtype.fields is None else "rgb",
        "scaled": scaled,
        "header": header.binaryblock,
        "header_endianness": header.endianness,
        "orientation_known": known,
    }
    if dtype.fields is not None:
        meta["colour"] = "rgb"
    findings = [] if known else [orientation_unknown(name, "its sform and qform codes are 0")]
    differing = places_that_differ(header, name)
    if differing is not None:
        findings.append(differing)
    if mended:
        findings.append(header_mended(name, mended))
    if left >= volume * count and not guessed:
        text = (
            f"{name} holds {1 + left / (volume * count):.3g} times the bytes that its header says: if its voxel type "
            "or sizes are wrong, the image is garbage; look at it, and export it again."
        )
        findings.append(Finding("more_than_said", text))
    if frame is not None:
        findings += frame_chosen(frame, count, name)
    return Image(array=array, geometry=geometry, physical=True, source=path, meta=meta, findings=tuple(findings))


def write_nifti(path: Path, array: np.ndarray, geometry: Geometry, like: Image | None = None) -> None:
    """Write a NIfTI file atomically.

    Args:
        path: The file to write.
        array: ``(C, D, H, W)``; several channels become a fourth axis.
        geometry: The grid.
        like: An image on that grid. If it was read from NIfTI, the geometry of its header is kept bit for bit (sform,
            qform, their codes, voxel sizes, units, NIfTI-1 or -2, 2D or 3D). Otherwise sform and, where the axes are
            perpendicular, qform are written with code 1, in mm.

    Raises:
        UnwritableError: The folder or the disk refuses the file.
    """
    data = np.transpose(array, (3, 2, 1, 0))  # C-order (C, D, H, W) is Fortran-order (i, j, k, c): no copy
    if array.shape[0] == 1:
        data = data[..., 0]
    header = _header_like(like) if like is not None and like.meta.get("format") == "nifti" else _new_header(geometry)
    if int(header["dim"][0]) == 2 and data.shape[2:] == (1,):
        data = data[..., 0]  # a 2D file stays one: its header has no third voxel size
    header.set_data_dtype(array.dtype)
    header.set_data_shape(data.shape)
    if data.ndim == 4:
        header["pixdim"][4] = 1.0
    kind = nib.Nifti2Image if header.sizeof_hdr == 540 else nib.Nifti1Image
    image = kind(data, None, header)
    # opened here: nibabel leaves its file open where writing fails, and an open file keeps its room on a full disk
    with atomic_path(path) as temporary, ImageOpener(str(temporary), "wb") as stream:
        image.file_map["image"].fileobj = stream
        image.to_file_map()


def _read_header(stream: IO[bytes], name: str) -> Any:
    try:
        start = stream.read(4)
    except (EOFError, zlib.error, OSError) as error:
        raise BadInputError(f"{name} is truncated or damaged ({brief(error)}); copy or export it again.") from error
    if not start:
        raise BadInputError(f"{name} is empty; copy or export the file again.")
    start += bytes(read_exactly(stream, 4 - len(start), name))
    for endianness in "<>":
        kind = _SIZES.get(struct.unpack(f"{endianness}i", start)[0])
        if kind is not None:
            block = start + bytes(read_exactly(stream, kind.sizeof_hdr - 4, name))
            header = kind(block, endianness, check=False)
            break
    else:
        raise BadInputError(f"{name} is not a NIfTI file (its first bytes are no NIfTI header); export it again.")
    magic = bytes(header["magic"].item())
    if not magic.startswith((b"n+1", b"n+2")):
        raise BadInputError(
            f"{name} is not a single-file NIfTI (Analyze, or half of a .hdr/.img pair); convert it to .nii.gz."
        )
    return header


def _layout(header: Any, name: str) -> tuple[tuple[int, int, int], int, np.dtype[Any]]:
    """Spatial sizes (i, j, k), number of volumes, and the dtype of a voxel (structured for RGB)."""
    dims = [int(value) for value in header["dim"]]
    rank = dims[0]
    if not 1 <= rank <= 7 or any(size < 1 for size in dims[1 : rank + 1]):
        raise BadInputError(f"{name} has impossible sizes in its header ({dims}); export the file again.")
    if rank < 2:
        raise BadInputError(f"{name} has only one axis; save it as a 2D or 3D image.")
    sizes = dims[1 : rank + 1] + [1] * (7 - rank)
    pixdim = tuple(float(value) for value in header["pixdim"][1 : min(rank, 3) + 1])
    if int(header["sform_code"]) > 0:  # a negative size is against the standard, but has no meaning beside an sform
        pixdim = tuple(abs(value) for value in pixdim)
    check_spacing(tuple(value * _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0) for value in pixdim), name)
    if any(int(header[field]) not in range(6) for field in ("sform_code", "qform_code")):
        raise BadInputError(f"{name} has an unknown sform or qform code; correct its header and save it again.")
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise BadInputError(
            f"{name} has an unknown voxel type ({brief(error)}); save it with integer or float values."
        ) from error
    if dtype.fields is None:
        if dtype.kind not in "uif" or dtype.itemsize not in (1, 2, 4, 8):
            raise BadInputError(f"{name} holds voxels of type {dtype}; save it with integer or float values.")
        return (sizes[0], sizes[1], sizes[2]), claimed_bytes(sizes[3:], 1), dtype
    if claimed_bytes(sizes[3:], 1) > 1:
        raise BadInputError(f"{name} holds several colour volumes; save the wanted one as a file of its own.")
    return (sizes[0], sizes[1], sizes[2]), 1, dtype


def _data_offset(header: Any, name: str) -> tuple[int, bool]:
    """Where the voxels begin, and whether that is a guess (a file of one piece that says byte 0)."""
    offset = float(header["vox_offset"])
    if offset == 0:
        return int(header.sizeof_hdr) + 4, True
    if not np.isfinite(offset) or offset != int(offset) or not header.sizeof_hdr <= offset <= _OFFSET_LIMIT:
        raise BadInputError(
            f"{name} says its voxels begin at byte {offset:g}, which no header reaches to; export the file again."
        )
    return int(offset), False


def _arrange(data: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = data.view(dtype).reshape(shape)
    if dtype.fields is None:
        return array
    colours = [name for name in "RGB" if name in dtype.fields]
    return np.stack([array[colour][0] for colour in colours])


def _scale(array: np.ndarray, header: Any, name: str) -> tuple[np.ndarray, bool]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):  # NIfTI: no scaling
        return array, False
    if not np.isfinite(inter):
        raise BadInputError(
            f"{name} scales its voxels by {slope:g} and adds {inter:g}; correct scl_inter in its header."
        )
    if (slope, inter) == (1.0, 0.0):
        return array, False
    scaled = np.empty(array.shape, np.float32)
    with np.errstate(over="ignore"):  # an overflow to infinity is refused by the check for finite values
        for source, target in zip(array, scaled, strict=True):
            for plane, result in zip(source, target, strict=True):  # plane by plane: in float64, which tiny slopes need
                result[...] = plane.astype(np.float64) * slope + inter
    return scaled, True


def _affine(header: Any, name: str) -> np.ndarray:
    """Index (d, h, w) to LPS mm."""
    try:
        if int(header["sform_code"]) > 0:
            ras = np.asarray(header.get_sform(), dtype=np.float64)
        elif int(header["qform_code"]) > 0:
            ras = np.asarray(header.get_qform(), dtype=np.float64)
        else:
            ras = np.asarray(header.get_base_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise BadInputError(
            f"{name} has an invalid qform ({brief(error)}); correct its header and save it again."
        ) from error
    if int(header["dim"][0]) == 2 and not np.any(ras[:3, 2]) and np.isfinite(ras).all():
        # a 2D file may leave the third axis out: one unit along the normal
        normal = np.cross(ras[:3, 0], ras[:3, 1])
        ras[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise BadInputError(
            f"{name} measures space in unknown units (code {unit}); correct its header and save it again."
        )
    ras[:3] *= _MM_PER_UNIT[unit]
    check_affine(ras, name)
    lps: np.ndarray = LPS_FROM_RAS @ ras[:, [2, 1, 0, 3]]
    return lps


def _header_like(like: Image) -> Any:
    block, endianness = like.meta["header"], like.meta["header_endianness"]
    kind = nib.Nifti2Header if len(block) == 540 else nib.Nifti1Header
    header = kind(block, endianness, check=False).as_byteswapped("<")
    for field, value in (("cal_max", 0), ("cal_min", 0), ("scl_slope", 1), ("scl_inter", 0), ("intent_code", 0)):
        header[field] = value
    header["intent_name"] = b""
    header["vox_offset"] = 0  # nibabel sets it on writing
    return header


def _new_header(geometry: Geometry) -> Any:
    header = nib.Nifti1Header()
    ras = LPS_FROM_RAS @ geometry.affine[:, [2, 1, 0, 3]]
    header.set_data_shape(tuple(reversed(geometry.shape)))
    header.set_sform(ras, code=1)
    if geometry.is_orthonormal():
        header.set_qform(ras, code=1)
    else:
        header["pixdim"][1:4] = tuple(reversed(geometry.spacing))
    header.set_xyzt_units("mm", "sec")
    return header
