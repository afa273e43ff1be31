"""Further hostile files: failed downloads, headers nested or repeated without end, bombs in side chunks."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from hostile.file import MB, PICTURE, VOLUME, Hostile, Verdict
from hostile.pictures import png_chunk, png_of, saved_picture, tiff_of
from hostile.volumes import dicom_of, nifti_of

_PAGE = (
    b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>" + b"<p>gone</p>" * 60 + b"</body></html>"
)
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 132421\n"


def more() -> Iterator[Hostile]:
    """All of them."""
    yield from _no_images()
    yield from _nifti()
    yield from _text_headers()
    yield from _pictures()
    yield from _tiff()
    yield from _numpy()
    yield from _dicom()


def _no_images() -> Iterator[Hostile]:
    """What lies in a folder after a download that failed."""
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".npy", ".npz", ".dcm"):
        yield Hostile(f"any_page{ending}", _PAGE, "refused")
    for ending in (".nii.gz", ".png", ".dcm"):
        yield Hostile(f"any_lfs_pointer{ending}", _POINTER, "refused")
    yield Hostile("any_xz.nii.gz", lzma.compress(nifti_of()), "refused")
    yield Hostile("any_page_packed.nii.gz", gzip.compress(_PAGE), "refused")


def _nifti() -> Iterator[Hostile]:
    plain = nifti_of()
    packed = gzip.compress(plain)
    members = b"".join(gzip.compress(plain[at : at + 1]) for at in range(len(plain)))
    yield Hostile("nifti_member_for_every_byte.nii.gz", members, "read")
    unnamed = packed[:3] + b"\x08" + packed[4:10] + b"n" * MB  # a file name that never ends
    yield Hostile("nifti_gzip_name.nii.gz", unnamed, "refused")
    swapped = nib.Nifti2Image(VOLUME.T, np.diag([-2.0, -2, 3, 1])).header.as_byteswapped(">")
    swapped.set_data_dtype(">i2")
    swapped["vox_offset"] = 544
    content = swapped.binaryblock + bytes(4) + VOLUME.astype(">i2").tobytes()
    yield Hostile("nifti_second_big_endian.nii", content, "read")
    yield Hostile("nifti_extension_lies.nii", plain[:348] + b"\1\0\0\0" + plain[352:], "read")
    yield Hostile("nifti_vector_of_five.nii", nifti_of(dim=[5, 2, 2, 2, 1, 42, 1, 1]), "refused")
    yield Hostile("nifti_slope_denormal.nii", nifti_of(scl_slope=1e-45), "read")


def _text_headers() -> Iterator[Hostile]:
    nrrd = (
        b"NRRD0004\ntype: uint8\ndimension: 3\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n"
    )
    meta = b"NDims = 3\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
    last = b"ElementDataFile = LOCAL\n"

    def files(name: str, verdict: Verdict, head: bytes, body: bytes = bytes(24)) -> Hostile:
        ending = ".nrrd" if head.startswith(b"NRRD") else ".mha"
        return Hostile(f"{'nrrd' if ending == '.nrrd' else 'meta'}_{name}{ending}", head + body, verdict)

    yield files("sizes_twice", "refused", nrrd + b"sizes: 2 3 4\nsizes: 4 3 2\n\n")
    yield files("nul_in_sizes", "refused", nrrd + b"sizes: 2\0 3 4\n\n")
    yield files("sizes_broken", "refused", nrrd + b"sizes: 2.5 3 4\n\n")
    yield files("pair_of_a_megabyte", "refused", nrrd + b"sizes: 2 3 4\nnote:=" + b"x" * MB + b"\n\n")
    yield files("encoding_unknown", "refused", nrrd.replace(b"raw", b"zrl") + b"sizes: 2 3 4\n\n")
    device = nrrd + b"sizes: 2 3 4\ndata file: /dev/zero\n\n"
    yield Hostile("nrrd_device.nhdr", device, "refused")
    files_listed = nrrd + b"sizes: 2 3 4\ndata file: LIST 2\n/etc/passwd\n/etc/passwd\n"
    yield Hostile("nrrd_listed.nhdr", files_listed, "refused")
    yield files("sizes_twice", "refused", meta + b"DimSize = 2 3 4\nDimSize = 4 3 2\n" + last)
    yield files("spacing_nan", "refused", meta.replace(b"1 1 1", b"1 1 nan") + b"DimSize = 2 3 4\n" + last)
    packed = meta + b"DimSize = 2 3 4\nCompressedData = True\n"
    yield files("compressed_size_lies", "read", packed + b"CompressedDataSize = 1\n" + last, zlib.compress(bytes(24)))
    yield files("header_size_packed", "refused", packed + b"HeaderSize = -1\n" + last, b"no zlib")


def _pictures() -> Iterator[Hostile]:
    def png(name: str, verdict: Verdict, content: bytes, labels: bool = False) -> Hostile:
        return Hostile(f"png_{name}.png", content, verdict, labels=labels)

    body = zlib.compress((b"\0" + bytes(range(10))) * 10)
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(100 * MB), 9))
    yield png("profile_bomb", "refused", png_of(10, 10, 8, 0, body, profile))
    texts = b"".join(png_chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(MB), 9)) for n in range(100))
    yield png("many_texts", "refused", png_of(10, 10, 8, 0, body, texts))
    pieces = b"".join(png_chunk(b"IDAT", body[at : at + 1]) for at in range(len(body)))
    yield png("chunk_for_every_byte", "read", png_of(10, 10, 8, 0, b"", pieces))
    yield png("length_negative", "read", png_of(10, 10, 8, 0, body)[:33] + b"\xff\xff\xff\xfeIDAT" + body)
    yield png("zip_behind_it", "read", saved_picture("PNG") + b"PK\3\4" + bytes(100))
    yield png("no_end", "read", png_of(10, 10, 8, 0, body)[:-12])
    jpeg = saved_picture("JPEG")
    comments = b"\xff\xfe" + struct.pack(">H", 65535) + bytes(65533)
    yield Hostile("jpeg_many_comments.jpg", jpeg[:2] + comments * 200 + jpeg[2:], "read")
    frame = jpeg.index(b"\xff\xc0")
    yield Hostile("jpeg_lossless.jpg", jpeg[:frame] + b"\xff\xc3" + jpeg[frame + 2 :], "refused")
    yield Hostile("jpeg_twelve_bits.jpg", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], "refused")
    slow = saved_picture("JPEG", np.zeros((8, 8, 3), np.uint8), progressive=True)
    start, end = slow.rindex(b"\xff\xda"), slow.rindex(b"\xff\xd9")
    at = slow.index(b"\xff\xc2") + 5
    huge = slow[:at] + struct.pack(">HH", 20000, 20000) + slow[at + 4 : start]
    yield Hostile("jpeg_many_scans.jpg", huge + slow[start:end] * 3000 + slow[end:], "refused")
    bmp = saved_picture("BMP")
    yield Hostile(
        "bmp_palette_absurd.bmp", bmp[:28] + b"\x08\0" + bmp[30:46] + b"\xff\xff\xff\x7f" + bmp[50:], "refused"
    )
    yield Hostile("bmp_jpeg_inside.bmp", bmp[:30] + struct.pack("<I", 4) + bmp[34:], "refused")


def _tiff() -> Iterator[Hostile]:
    def saved(array: np.ndarray = PICTURE[..., 0], **options: Any) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **options)
        return stream.getvalue()

    def tiff(name: str, content: bytes, verdict: Verdict = "refused", **beside: bytes) -> Hostile:
        files = {f"tiff_{name}.{ending}": data for ending, data in beside.items()}
        return Hostile(f"tiff_{name}.tif", content, verdict, files)

    simple: dict[int, tuple[int, int, int]] = {
        256: (4, 1, 10), 257: (4, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 10), 279: (4, 1, 100),
    }  # fmt: skip
    stack = np.random.default_rng(0).integers(0, 255, (5, 6, 7), dtype=np.uint8)
    shape = b'{"shape": [5, 6, 7]}'
    lying = saved(stack).replace(shape, b'{"shape": [9, 6, 9]}')
    yield tiff("shape_lies", lying, "read")  # a remark of tifffile's, which the pages do not confirm
    yield tiff("imagej_count_lies", saved(stack, imagej=True).replace(b"images=5", b"images=9"))
    yield tiff("spacing_infinite", saved(stack), json=b'{"spacing": [1e999, 1, 1]}')
    yield tiff("spacing_nan", saved(stack), json=b'{"spacing": [NaN, 1, 1]}')
    yield tiff("next_page_is_itself", tiff_of(simple, bytes(100))[:-4] + struct.pack("<I", 108))
    tiles = {322: (4, 1, 2**31), 323: (4, 1, 2**31), 324: (4, 1, 8), 325: (4, 1, 100)}
    strips = (273, 278, 279)
    yield tiff("tile_absurd", tiff_of({**{k: v for k, v in simple.items() if k not in strips}, **tiles}, bytes(100)))
    yield tiff("palette_short", tiff_of({**simple, 262: (3, 1, 3), 320: (3, 6, 8)}, bytes(range(100))))
    yield tiff("lzw_rubbish", tiff_of({**simple, 259: (3, 1, 5)}, bytes(range(100))))
    yield tiff("jpeg_rubbish", tiff_of({**simple, 259: (3, 1, 7)}, bytes(range(100))))
    yield tiff("count_absurd", tiff_of({**simple, 273: (4, 2**31 - 1, 8)}, bytes(100)))
    yield tiff("deflate_cut", saved(compression="zlib").replace(b"x\x9c", b"x\x9d"))


def _numpy() -> Iterator[Hostile]:
    stream = io.BytesIO()
    np.save(stream, PICTURE)
    plain = stream.getvalue()

    def npy(name: str, content: bytes, verdict: Verdict = "refused", ending: str = ".npy") -> Hostile:
        return Hostile(f"numpy_{name}{ending}", content, verdict)

    yield npy("text", plain.replace(b"'|u1'", b"'<U9'"))
    yield npy("zip_inside", plain[:10] + b"PK\3\4" + plain[14:])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../a.npy", plain)
    yield npy("climbs", archive.getvalue(), "read", ".npz")  # only read, never unpacked to the disk
    encrypted = bytearray(archive.getvalue())
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    yield npy("encrypted", bytes(encrypted), "refused", ".npz")
    sized = bytearray(archive.getvalue())
    at = sized.index(b"PK\1\2") + 20
    sized[at : at + 8] = struct.pack("<II", 2**31, 2**31)
    yield npy("size_lies", bytes(sized), "refused", ".npz")


def _dicom() -> Iterator[Hostile]:
    def bad(name: str, content: bytes) -> Hostile:
        return Hostile(f"dicom_{name}.dcm", content, "refused")

    plain = dicom_of()
    at = plain.index(struct.pack("<HH", 0x0008, 0x0016))  # the data set's first element
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    modality = plain.index(struct.pack("<HH", 0x0008, 0x0060))
    yield bad("nested_without_end", plain[:modality] + sequence * 20_000 + plain[modality:])
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFF0)
    size = plain.index(struct.pack("<HH", 0x0028, 0x0002))
    yield bad("private_of_gigabytes", plain[:size] + unknown + plain[size:])
    yield bad("frames_in_words", dicom_of(NumberOfFrames=1).replace(b"IS\2\0001 ", b"IS\2\000x "))
    yield bad("twice_in_one", plain[:at] + plain)
    yield Hostile("dicom_and_zeros.dcm", plain + bytes(5000), "read")
    yield bad("table_short", _with_table(0))
    yield Hostile("dicom_table.dcm", _with_table(4), "read")
    yield bad("no_class", plain[:132] + plain[at:].replace(b"CR", b"SR"))


def _with_table(words: int) -> bytes:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.LUTDescriptor = [4, 0, 16]
    item.LUTData = bytes(2 * words)
    return dicom_of(ModalityLUTSequence=[item])
