"""Hostile and odd files of every format, made by code: each with what must come of it.

"refused": one sentence that names the file; "read": an image. Files are small; what they claim may not be.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image as PillowImage

Verdict = Literal["refused", "read"]
MB = 1 << 20


@dataclass(frozen=True)
class Hostile:
    """A file, what lies beside it, and the verdict on it; ``labels``: it is read as a label map."""

    name: str
    content: bytes
    verdict: Verdict
    beside: dict[str, bytes] = field(default_factory=dict)
    labels: bool = False


@cache
def corpus() -> list[Hostile]:
    """All of them; names are unique."""
    from hostile.more import more  # late: it is made of this module's parts

    parts = (
        _nifti(),
        _nrrd(),
        _metaimage(),
        _png(),
        _other_pictures(),
        _tiff(),
        _numpy(),
        _dicom(),
        _anything(),
        more(),
    )
    return [item for part in parts for item in part]


VOLUME = (np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8))).astype(np.int16)
PICTURE = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)


def nifti_of(data: np.ndarray = VOLUME, kind: Any = nib.Nifti1Image, **fields: Any) -> bytes:
    """A NIfTI file of int16 voxels, and header fields that are set whatever they mean."""
    image = kind(data.T, None, dtype=data.dtype)
    image.header.set_qform(np.diag([-2.0, -2, 3, 1]), code=1)
    image.header.set_sform(np.diag([-2.0, -2, 3, 1]), code=1)
    raw = image.to_bytes()
    size = image.header.sizeof_hdr
    header = type(image.header)(raw[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock + raw[size:])


def _nifti() -> Iterator[Hostile]:
    def bad(name: str, content: bytes, ending: str = ".nii") -> Hostile:
        return Hostile(f"nifti_{name}{ending}", content, "refused")

    def good(name: str, content: bytes, ending: str = ".nii") -> Hostile:
        return Hostile(f"nifti_{name}{ending}", content, "read")

    plain = nifti_of()
    packed = gzip.compress(plain)
    yield good("plain", plain)
    yield good("packed", packed, ".nii.gz")
    yield good("packed_under_a_plain_name", packed)
    yield bad("header_alone", plain[:352])
    yield bad("cut", plain[:-5])
    yield bad("cut_gzip", packed[:-20], ".nii.gz")
    yield bad("wrong_checksum", packed[:-8] + b"abcd" + packed[-4:], ".nii.gz")
    yield bad("wrong_length", packed[:-4] + b"\xff\xff\xff\xff", ".nii.gz")
    yield bad("gzip_and_rubbish", packed + b"rubbish behind it", ".nii.gz")
    yield bad("gzip_for_ever", gzip.compress(plain + bytes(80 * MB), 1), ".nii.gz")
    yield bad("gzip_claims", gzip.compress(nifti_of(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])), ".nii.gz")
    yield bad(
        "gzip_promise", gzip.compress(nifti_of(dim=[3, 600, 600, 600, 1, 1, 1, 1])[:352] + bytes(80 * MB), 9), ".nii.gz"
    )
    yield bad("png_inside", b"\x89PNG\r\n\x1a\n" + bytes(500))
    yield bad("pair", nifti_of(magic=b"ni1"))
    yield bad("no_magic", nifti_of(magic=b""))
    yield bad("analyze", plain[:344] + bytes(4) + plain[348:])
    for name, dims in {
        "rank_0": [0, 8, 7, 6, 1, 1, 1, 1],
        "rank_8": [8, 8, 7, 6, 1, 1, 1, 1],
        "rank_negative": [-3, 8, 7, 6, 1, 1, 1, 1],
        "rank_1": [1, 336, 1, 1, 1, 1, 1, 1],
        "size_0": [3, 8, 0, 6, 1, 1, 1, 1],
        "size_negative": [3, 8, -7, 6, 1, 1, 1, 1],
        "size_absurd": [3, 32767, 32767, 32767, 1, 1, 1, 1],
        "seven_axes": [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767],
        "time": [4, 2, 2, 2, 42, 1, 1, 1],
    }.items():
        yield bad(name, nifti_of(dim=dims))
    yield bad("nifti2_overflow", nifti_of(kind=nib.Nifti2Image, dim=[3, 2**62, 2**62, 4, 1, 1, 1, 1]))
    for name, size in {"0": 0, "nan": np.nan, "inf": np.inf, "1e4": 1e4, "1e30": 1e30, "1e-30": 1e-30}.items():
        yield bad(f"spacing_{name}", nifti_of(pixdim=[1, 2, size, 3, 0, 0, 0, 0]))
    yield bad("sform_nan", nifti_of(srow_x=[np.nan, 0, 0, 0]))
    yield bad("sform_flat", nifti_of(srow_x=[2, 0, 0, 0], srow_y=[2, 0, 0, 0]))
    yield bad("sform_far", nifti_of(srow_x=[2, 0, 0, 1e30]))
    yield bad("sform_huge", nifti_of(srow_x=[1e38, 0, 0, 0]))
    yield bad("code_99", nifti_of(sform_code=99))
    yield bad("quaternion", nifti_of(sform_code=0, quatern_b=0.9, quatern_c=0.9))
    yield bad("quaternion_nan", nifti_of(sform_code=0, quatern_b=np.nan))
    yield bad("qfac_nan", nifti_of(sform_code=0, pixdim=[np.nan, 2, 2, 3, 0, 0, 0, 0]))
    for name, offset in {"nan": np.nan, "negative": -4, "inside": 100, "far": 3e9, "half": 352.5}.items():
        yield bad(f"offset_{name}", nifti_of(vox_offset=offset))
    for code in (0, 1, 32, 1536, 2048, 9999):
        yield bad(f"type_{code}", nifti_of(datatype=code))
    yield bad("units", nifti_of(xyzt_units=7))
    for name, value in {"nan": np.nan, "inf": np.inf, "1e39": 1e39, "1e300": 1e300, "minus_1e308": -1e308}.items():
        data = np.ones((6, 7, 8))
        data[1, 2, 3] = value
        yield bad(f"voxel_{name}", gzip.compress(nifti_of(data)), ".nii.gz")
    nodata = np.ones((6, 7, 8), np.float32)
    nodata[0, 0, 0] = np.finfo(np.float32).min
    yield bad("voxel_lowest_float", nifti_of(nodata))
    yield bad("slope", nifti_of(scl_slope=3e38))
    yield bad("inter_nan", nifti_of(scl_slope=2, scl_inter=np.nan))
    yield good("slope_nan", nifti_of(scl_slope=np.nan, scl_inter=np.nan))
    yield good("codes_0", nifti_of(sform_code=0, qform_code=0))
    yield good("qfac_0", nifti_of(sform_code=0, pixdim=[0, 2, 2, 3, 0, 0, 0, 0]))
    yield good("quaternion_rounded", nifti_of(sform_code=0, quatern_b=0.71, quatern_c=0.71, quatern_d=0))
    yield good("sform_empty", nifti_of(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4))
    yield good("offset_0", nifti_of(vox_offset=0))
    yield good("further_size_0", nifti_of(dim=[4, 8, 7, 6, 0, 0, 0, 0]))
    yield good("wrong_bitpix", nifti_of(bitpix=3))
    rgb = np.zeros((6, 7, 8), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    yield good("rgb", nifti_of(rgb))


def _nrrd() -> Iterator[Hostile]:
    def text(body: bytes = bytes(24), **changes: str | None) -> bytes:
        fields: dict[str, str | None] = {
            "type": "uint8",
            "dimension": "3",
            "sizes": "2 3 4",
            "encoding": "raw",
            "space": "LPS",
            "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        }
        fields |= {key.replace("_", " "): value for key, value in changes.items()}
        lines = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
        return "\n".join(lines).encode() + b"\n\n" + body

    def bad(name: str, content: bytes, ending: str = ".nrrd", **beside: bytes) -> Hostile:
        return Hostile(
            f"nrrd_{name}{ending}", content, "refused", {key.replace("_", "."): v for key, v in beside.items()}
        )

    yield Hostile("nrrd_plain.nrrd", text(), "read")
    yield Hostile(
        "nrrd_nan_vector.nrrd",
        text(bytes(48), dimension="4", sizes="2 2 3 4", space_directions="(nan,nan,nan) (1,0,0) (0,1,0) (0,0,1)"),
        "read",
    )
    yield Hostile("nrrd_no_space.nrrd", text(space=None), "read")
    yield Hostile("nrrd_no_endian.nrrd", text(bytes(48), type="short"), "read")
    yield bad("empty_header", b"NRRD0004\n\n")
    yield bad("no_newline", b"NRRD0004")
    yield bad("long_line", b"NRRD0004\n" + b"a" * (2 * MB))
    yield bad("many_lines", b"NRRD0004\n" + b"a: b\n" * 20_000)
    yield bad("cut", text(bytes(20)))
    yield bad("gzip_cut", text(zlib.compress(bytes(24))[:-3], encoding="gzip"))
    yield bad("gzip_rubbish", text(b"no gzip at all, that", encoding="gzip"))
    yield bad("gzip_for_ever", text(gzip.compress(bytes(80 * MB), 1), encoding="gzip"))
    yield bad("bzip2_cut", text(bz2.compress(bytes(24))[:-9], encoding="bzip2"))
    yield bad("bzip2_for_ever", text(bz2.compress(bytes(100 * MB)), encoding="bzip2"))
    yield bad("hex", text(b"00" * 24, encoding="hex"))
    for name, changes in {
        "size_absurd": {"sizes": "30000 30000 30000"},
        "size_overflow": {"sizes": f"{2**63} {2**63} 4"},
        "size_negative": {"sizes": "2 -3 4"},
        "size_text": {"sizes": "a b c"},
        "size_missing": {"sizes": None},
        "dimension": {"dimension": "2"},
        "dimension_0": {"dimension": "0", "sizes": ""},
        "sixty_axes": {"dimension": "60", "sizes": "1 " * 60, "space_directions": None},
        "line_skip_empty": {"line_skip": ""},
        "line_skip_absurd": {"line_skip": "999999999999"},
        "byte_skip_empty": {"byte_skip": ""},
        "byte_skip_absurd": {"byte_skip": "99999999999999999999999"},
        "byte_skip_minus_2": {"byte_skip": "-2"},
        "type_block": {"type": "block"},
        "directions_flat": {"space_directions": "(1,0,0) (1,0,0) (0,0,1)"},
        "directions_inf": {"space_directions": "(1,0,0) (0,inf,0) (0,0,1)"},
        "directions_empty": {"space_directions": "() () ()"},
        "directions_few": {"space_directions": "(1,0,0)"},
        "spacing_1e30": {"space_directions": None, "spacings": "1 1 1e30"},
        "units": {"space_units": '"parsec" "parsec" "parsec"'},
    }.items():
        yield bad(name, text(**changes))
    yield bad("names_itself", text(b"", data_file="nrrd_names_itself.nhdr"), ".nhdr")
    yield bad("leaves_its_folder", text(b"", data_file="../../etc/passwd"), ".nhdr")
    yield bad("several_files", text(b"", data_file="LIST"), ".nhdr")
    yield bad("no_data_file", text(b"", data_file="not_there.raw"), ".nhdr")
    for name, pairs, verdict in (
        ("overlap", "Segment0_Name:=a\nSegment0_Layer:=0\nSegment1_Name:=b\nSegment1_Layer:=1", "refused"),
        ("value", "Segment0_Name:=a\nSegment0_LabelValue:=-3", "refused"),
        ("layer", "Segment0_Name:=a\nSegment0_LabelValue:=1\nSegment0_Layer:=99", "refused"),
    ):
        header = text(b"\1" * 48, dimension="4", sizes="2 2 3 4", space_directions="none (1,0,0) (0,1,0) (0,0,1)")
        at = header.index(b"\n\n")
        content = header[:at] + b"\n" + pairs.encode() + header[at:]
        yield Hostile(f"nrrd_{name}.seg.nrrd", content, verdict, labels=True)  # type: ignore[arg-type]


def _metaimage() -> Iterator[Hostile]:
    def text(body: bytes = bytes(24), last: str = "LOCAL", **changes: str | None) -> bytes:
        fields: dict[str, str | None] = {
            "NDims": "3",
            "DimSize": "2 3 4",
            "ElementType": "MET_UCHAR",
            "ElementSpacing": "1 1 1",
            "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        }
        fields |= changes
        lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
        return "\n".join([*lines, f"ElementDataFile = {last}"]).encode() + b"\n" + body

    def bad(name: str, content: bytes, ending: str = ".mha") -> Hostile:
        return Hostile(f"meta_{name}{ending}", content, "refused")

    yield Hostile("meta_plain.mha", text(), "read")
    yield Hostile("meta_no_matrix.mha", text(TransformMatrix=None), "read")
    yield bad("cut", text(bytes(20)))
    yield bad("no_end", b"NDims = 3\n" * 20)
    yield bad("many_lines", b"a = b\n" * 20_000)
    yield bad("zlib_cut", text(zlib.compress(bytes(24))[:-3], CompressedData="True"))
    yield bad("zlib_for_ever", text(zlib.compress(bytes(80 * MB), 1), CompressedData="True"))
    for name, changes in {
        "rank_0": {"NDims": "0", "DimSize": ""},
        "rank_99": {"NDims": "99", "DimSize": "1 " * 99},
        "rank_empty": {"NDims": ""},
        "size_absurd": {"DimSize": "30000 30000 30000"},
        "size_negative": {"DimSize": "2 3 -4"},
        "size_text": {"DimSize": "x y z"},
        "channels_empty": {"ElementNumberOfChannels": ""},
        "channels_absurd": {"ElementNumberOfChannels": "99999999999"},
        "skip_empty": {"HeaderSize": ""},
        "skip_absurd": {"HeaderSize": "99999999999999999999"},
        "spacing_0": {"ElementSpacing": "1 0 1"},
        "spacing_1e30": {"ElementSpacing": "1 1e30 1"},
        "spacing_empty": {"ElementSpacing": ""},
        "matrix_flat": {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
        "matrix_short": {"TransformMatrix": "1 0 0"},
        "offset_inf": {"Offset": "0 0 inf"},
        "type": {"ElementType": "MET_STRING"},
        "text": {"BinaryData": "False"},
    }.items():
        yield bad(name, text(**changes))
    yield bad("names_itself", text(b"", "meta_names_itself.mhd"), ".mhd")
    yield bad("leaves_its_folder", text(b"", "../x.raw"), ".mhd")
    yield bad("several_files", text(b"", "slice%03d.raw 1 4 1"), ".mhd")
    yield bad("no_name", text(b"", ""), ".mhd")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int, colour: int, body: bytes, *chunks: bytes) -> bytes:
    """A PNG with this header, these packed pixels and further chunks before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def saved_picture(form: str, picture: np.ndarray = PICTURE, mode: str | None = None, **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    stream = io.BytesIO()
    image = PillowImage.fromarray(picture)
    (image if mode is None else image.convert(mode)).save(stream, form, **options)
    return stream.getvalue()


def _exif(orientation: int) -> PillowImage.Exif:
    found = PillowImage.Exif()
    found[0x0112] = orientation
    return found


def _png() -> Iterator[Hostile]:
    def bad(name: str, content: bytes, labels: bool = False) -> Hostile:
        return Hostile(f"png_{name}.png", content, "refused", labels=labels)

    rows = b"\0" + bytes(range(10))
    plain = saved_picture("PNG")
    grey = zlib.compress(rows * 10)
    yield Hostile("png_plain.png", plain, "read")
    yield Hostile("png_grey_labels.png", png_of(10, 10, 8, 0, grey), "read", labels=True)
    yield Hostile("png_turned.png", saved_picture("PNG", exif=_exif(6)), "read")
    yield bad("signature", plain[:8])
    yield bad("cut", plain[: len(plain) // 2])
    yield bad("wrong_checksum", plain[:60] + bytes([plain[60] ^ 255]) + plain[61:])
    yield bad("size_0", png_of(0, 10, 8, 0, grey))
    yield bad("size_absurd", png_of(2**31 - 1, 2**31 - 1, 8, 0, grey))
    yield bad("size_lies", png_of(4000, 4000, 8, 2, grey))
    yield bad("depth", png_of(10, 10, 7, 0, grey))
    yield bad("colour_type", png_of(10, 10, 8, 5, grey))
    yield bad("no_palette", png_of(10, 10, 8, 3, grey))
    yield bad("no_pixels", png_of(10, 10, 8, 0, b""))
    yield bad("rubbish", png_of(10, 10, 8, 0, b"no zlib"))
    yield bad("text_bomb", png_of(10, 10, 8, 0, grey, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 * MB), 9))))
    yield bad("blank", png_of(9000, 10000, 8, 2, zlib.compress(bytes((9000 * 3 + 1) * 10000), 1)))
    yield bad(
        "exif_rubbish", saved_picture("PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\x07\0\1\0\0\0\0\0\0\0\0\0\0\0")
    )
    yield bad("orientation_9", saved_picture("PNG", exif=_exif(9)))
    yield bad("transparent", saved_picture("PNG", np.zeros((5, 5, 4), np.uint8)))
    frames = [PillowImage.fromarray(PICTURE), PillowImage.fromarray(255 - PICTURE)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    yield bad("animation", stream.getvalue())
    yield bad("colour_labels", plain, labels=True)
    yield bad("alpha_labels", saved_picture("PNG", mode="RGBA"), labels=True)
    yield bad("really_a_gif", saved_picture("GIF"))


def _other_pictures() -> Iterator[Hostile]:
    jpeg, bmp = saved_picture("JPEG"), saved_picture("BMP")
    frame = jpeg.index(b"\xff\xc0")  # start of frame: length 2, precision 1, height 2, width 2
    yield Hostile("jpeg_plain.jpg", jpeg, "read")
    yield Hostile("jpeg_turned.jpg", saved_picture("JPEG", exif=_exif(3)), "read")
    yield Hostile("jpeg_cmyk.jpg", saved_picture("JPEG", mode="CMYK"), "read")
    yield Hostile("jpeg_cut.jpg", jpeg[: len(jpeg) // 2], "refused")
    yield Hostile("jpeg_start_alone.jpg", jpeg[:20], "refused")
    yield Hostile("jpeg_size.jpg", jpeg[: frame + 5] + b"\xff\xff\xff\xff" + jpeg[frame + 9 :], "refused")
    yield Hostile("jpeg_size_0.jpg", jpeg[: frame + 5] + bytes(4) + jpeg[frame + 9 :], "refused")
    turned = saved_picture("JPEG", exif=_exif(6))
    kind = "<HHI" if b"Exif\0\0II" in turned else ">HHI"
    wrong = turned.replace(struct.pack(kind, 0x0112, 3, 1), struct.pack(kind, 0x0112, 7, 1))
    yield Hostile("jpeg_orientation_of_bytes.jpg", wrong, "refused")
    yield Hostile("jpeg_as_labels.png", jpeg, "refused", labels=True)
    yield Hostile("bmp_plain.bmp", bmp, "read")
    yield Hostile("bmp_cut.bmp", bmp[: len(bmp) // 2], "refused")
    yield Hostile("bmp_header.bmp", bmp[:30], "refused")
    yield Hostile("bmp_size.bmp", bmp[:18] + struct.pack("<ii", 2**30, 2**30) + bmp[26:], "refused")
    yield Hostile("bmp_size_negative.bmp", bmp[:18] + struct.pack("<ii", -5, 5) + bmp[26:], "refused")


def tiff_of(tags: dict[int, tuple[int, int, int]], data: bytes, after: bytes = b"") -> bytes:
    """A classic little-endian TIFF: ``data`` at byte 8, then ``after``, then one directory of (kind, count, value)."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    place = 8 + len(data) + len(after)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", place) + data + after + directory


def _tiff() -> Iterator[Hostile]:
    def saved(array: np.ndarray = PICTURE[..., 0], **options: Any) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **options)
        return stream.getvalue()

    def bad(name: str, content: bytes, labels: bool = False, **beside: bytes) -> Hostile:
        files = {f"tiff_{name}.{key}": value for key, value in beside.items()}
        return Hostile(f"tiff_{name}.tif", content, "refused", files, labels)

    plain = saved()
    pixels = bytes(100)
    simple: dict[int, tuple[int, int, int]] = {
        256: (4, 1, 10), 257: (4, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 10), 279: (4, 1, 100),
    }  # fmt: skip
    stack = np.random.default_rng(0).integers(0, 255, (5, 6, 7), dtype=np.uint8)
    yield Hostile("tiff_plain.tif", plain, "read")
    yield Hostile("tiff_by_hand.tif", tiff_of(simple, pixels), "read")
    yield Hostile("tiff_turned.tif", tiff_of({**simple, 274: (3, 1, 8)}, pixels), "read")
    yield Hostile("tiff_spacing.tif", saved(stack), "read", {"tiff_spacing.json": b'{"spacing": [3, 1, 1]}'})
    yield bad("header", plain[:8])
    yield bad("order", b"XX" + plain[2:])
    yield bad("cut", plain[: len(plain) - 300])
    yield bad("no_pages", b"II*\0" + bytes(12))
    yield bad("circle", plain[:4] + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8) + bytes(20))
    yield bad("directory_far_away", plain[:4] + struct.pack("<I", 2**31) + plain[8:])
    yield bad("big_tiff_lies", b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + struct.pack("<Q", 2**60))
    for name, changes in {
        "size_absurd": {256: (4, 1, 2**31), 257: (4, 1, 2**31)},
        "size_0": {256: (4, 1, 0)},
        "strip_far_away": {273: (4, 1, 10**6)},
        "strip_long": {279: (4, 1, 10**6)},
        "compression": {259: (3, 1, 34712)},
        "compression_unknown": {259: (3, 1, 12345)},
        "bits": {258: (3, 1, 7)},
        "orientation_9": {274: (3, 1, 9)},
        "orientation_of_bytes": {274: (7, 1, 6)},
        "samples": {277: (3, 1, 200)},
        "planar": {284: (3, 1, 77), 277: (3, 1, 3)},
    }.items():
        yield bad(name, tiff_of({**simple, **changes}, pixels))
    strip, count = zlib.compress(bytes(MB), 9), 1024
    offsets = struct.pack(f"<{count}I", *[8] * count) + struct.pack(f"<{count}I", *[len(strip)] * count)
    at = 8 + len(strip)
    tower = {257: (4, 1, 1024 * count), 256: (4, 1, 1024), 278: (4, 1, 1024), 259: (3, 1, 8)}
    lying = {273: (4, count, at), 279: (4, count, at + 4 * count)}
    yield bad("strips_over_each_other", tiff_of({**simple, **tower, **lying}, strip, offsets))
    yield bad("blank", saved(np.broadcast_to(np.uint8(0), (300, 1024, 1024)), compression="zlib", rowsperstrip=1024))
    yield bad("infinite", saved(np.full((5, 6), np.inf, np.float32)))
    yield bad("beyond", saved(np.full((5, 6), 1e39)))
    yield bad("complex", saved(np.ones((5, 6), np.complex64)))
    yield bad("time", saved(np.ones((9, 5, 6), np.uint8), imagej=True, metadata={"axes": "TYX"}))
    yield bad("sizes", saved() + b"", labels=True, json=b'{"spacing": [0, 1, 1]}')
    yield bad("json_text", saved(stack), json=b'{"spacing": "1 1 1"}')
    yield bad(
        "ome",
        saved(PICTURE[..., 0], description="<OME><Image><Pixels PhysicalSizeX='x'/></Image></OME>", metadata=None),
    )
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "lol"}">' for n in range(10))
    yield bad(
        "ome_laughs",
        saved(
            PICTURE[..., 0],
            description=f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME>&a9;</OME>',
            metadata=None,
        ),
    )


def _numpy() -> Iterator[Hostile]:
    def npy(array: np.ndarray, **options: Any) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array, **options)
        return stream.getvalue()

    def claims(shape: Any, descr: str = "|u1", data: bytes = bytes(24)) -> bytes:
        header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data

    def npz(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)
        return stream.getvalue()

    def bad(name: str, content: bytes, ending: str = ".npy") -> Hostile:
        return Hostile(f"numpy_{name}{ending}", content, "refused")

    plain = npy(PICTURE)
    yield Hostile("numpy_plain.npy", plain, "read")
    yield Hostile("numpy_packed.npz", npz(a=plain), "read")
    yield bad("magic", b"\x93NUMPY")
    yield bad("cut", plain[:-9])
    yield bad("pickle", npy(np.array([{"a": 1}], dtype=object), allow_pickle=True))
    yield bad("code", claims("__import__('os').getcwd()"))
    yield bad("nesting", claims("(" * 4000 + "1" + ")" * 4000))
    yield bad("shape_text", claims("'abc'"))
    yield bad("hundred_axes", claims((1,) * 100))
    yield bad("shape_absurd", claims((2**40, 2**40)))
    yield bad("shape_overflow", claims((2**62, 4, 4)))
    yield bad("shape_negative", claims((-4, 6)))
    yield bad("shape_0", claims((0, 2**63)))
    yield bad("descr", claims((2, 3), "rubbish"))
    yield bad("structured", npy(np.zeros((3, 3), [("a", "u1"), ("b", "f4")])))
    yield bad("complex", npy(np.zeros((3, 3), complex)))
    yield bad("nan", npy(np.full((3, 3), np.nan)))
    yield bad("beyond", npy(np.full((3, 3), 1e300)))
    yield bad("version", b"\x93NUMPY\x09\x09" + plain[8:])
    yield bad("header_long", b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + b" " * 100)
    yield bad("two", npz(a=plain, b=plain), ".npz")
    yield bad("none", npz(), ".npz")
    yield bad("no_zip", plain, ".npz")
    yield bad("zip_cut", npz(a=plain)[:-30], ".npz")
    yield bad("lzma", npz(zipfile.ZIP_LZMA, a=plain), ".npz")
    yield bad("header_bomb", npz(a=b"\x93NUMPY\x02\0" + struct.pack("<I", 80 * MB) + b" " * (80 * MB)), ".npz")
    yield bad("promise", npz(a=claims((2**30,) * 2)), ".npz")
    far = bytearray(npz(a=plain))
    at = far.rindex(b"PK\1\2")
    far[at + 42 : at + 46] = b"\xff\xff\xff\x7f"  # where the member should begin
    yield bad("seek", bytes(far), ".npz")


def dicom_of(syntax: str = "1.2.840.10008.1.2.1", pixels: bytes | None = None, **elements: Any) -> bytes:
    """An X-ray of 16 x 20 pixels, explicit little endian; None removes an element."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import JPEG2000Lossless, RLELossless

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # X-ray
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.Modality, data.PhotometricInterpretation = "CR", "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel = 16, 20, 1
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing = [0.5, 0.5]
    data.PixelData = pixels if pixels is not None else np.arange(320, dtype=np.uint16).tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if syntax in (JPEG2000Lossless, RLELossless):
        data["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def _dicom() -> Iterator[Hostile]:
    from pydicom.encaps import encapsulate
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    def bad(name: str, content: bytes) -> Hostile:
        return Hostile(f"dicom_{name}.dcm", content, "refused")

    plain = dicom_of()
    yield Hostile("dicom_plain.dcm", plain, "read")
    yield Hostile("dicom_deflated.dcm", dicom_of(DeflatedExplicitVRLittleEndian), "read")
    yield bad("mark_alone", plain[:132])
    yield bad("cut", plain[:-100])
    yield bad("cut_header", plain[:300])
    yield bad("rows_absurd", dicom_of(Rows=65535, Columns=65535))
    yield bad("rows_0", dicom_of(Rows=0))
    yield bad("frames_absurd", dicom_of(NumberOfFrames=2**31 - 1))
    yield bad("no_rows", dicom_of(Rows=None))
    yield bad("no_pixels", dicom_of(PixelData=None))
    yield bad("spacing_0", dicom_of(PixelSpacing=[0, 0.5]))
    yield bad("spacing_1e30", dicom_of(PixelSpacing=[1e30, 0.5]))
    yield bad("slope_beyond", dicom_of(RescaleSlope="1e38", RescaleIntercept="0"))
    yield bad("bits", dicom_of(BitsAllocated=13))
    yield bad("samples", dicom_of(SamplesPerPixel=99))
    yield bad("j2k_rubbish", dicom_of(JPEG2000Lossless, encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])))
    box = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0jp2c"  # a box of length 0
    yield bad("j2k_endless", dicom_of(JPEG2000Lossless, encapsulate([box + bytes(40)])))
    lengths = encapsulate([bytes(40)])
    yield bad(
        "encapsulated_lengths", dicom_of(RLELossless, lengths[:8] + b"\xfe\xff\x00\xe0\xff\xff\xff\x7f" + lengths[16:])
    )
    yield bad("rle_rubbish", dicom_of(RLELossless, encapsulate([bytes(range(200))])))
    bomb = dicom_of(DeflatedExplicitVRLittleEndian)
    at = 132 + 12 + struct.unpack("<I", bomb[140:144])[0]
    inner = zlib.decompress(bomb[at:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = bomb[:at] + packer.compress(inner + bytes(80 * MB)) + packer.flush()
    yield Hostile("dicom_deflated_bomb.dcm", content, "read")  # what it claims is there; what follows is not unpacked


def _anything() -> Iterator[Hostile]:
    endings = (
        ".nii",
        ".nii.gz",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".png",
        ".bmp",
        ".jpg",
        ".tif",
        ".npy",
        ".npz",
        ".dcm",
    )
    random = np.random.default_rng(5).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    for ending in endings:
        yield Hostile(f"any_empty{ending}", b"", "refused")
        yield Hostile(f"any_zeros{ending}", bytes(4096), "refused")
        yield Hostile(f"any_random{ending}", random, "refused")
    yield Hostile("any_json.nii.gz", gzip.compress(json.dumps({"a": 1}).encode()), "refused")
