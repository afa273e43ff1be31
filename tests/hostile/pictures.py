"""Pictures and arrays of the corpus: PNG, JPEG, BMP, TIFF, NumPy."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from hostile.file import MB, PICTURE, Hostile
from PIL import Image as PillowImage


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


def png() -> Iterator[Hostile]:
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


def other_pictures() -> Iterator[Hostile]:
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


def tiff() -> Iterator[Hostile]:
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


def numpy() -> Iterator[Hostile]:
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
