"""Values that nothing can compute with, and small files that unpack to gigabytes: refused, at no cost."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import tifffile

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image
from meduniseg_core.images.formats import raw_data
from meduniseg_core.images.formats.raw_data import read_exactly


class TestValues:
    @pytest.mark.parametrize("value", [1e39, -1e39, 1e300, -3.4028234663852886e38])
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".npy"])
    def test_one_voxel_beyond_what_can_be_computed_with_is_refused(
        self, ending: str, value: float, tmp_path: Path
    ) -> None:
        kind = np.float64 if abs(value) > 3.5e38 else np.float32
        array = np.ones((1, 3, 4, 5), kind)
        array[0, 1, 2, 3] = value
        write_image(Image(array, Geometry((3, 4, 5), (1, 1, 1))), tmp_path / f"a{ending}")
        with pytest.raises(BadInputError, match=rf"a{ending} holds 1 voxels beyond what can be computed with"):
            read_image(tmp_path / f"a{ending}")

    def test_an_integer_file_whose_slope_leads_there_is_refused(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
        nib.save(image, tmp_path / "a.nii")
        raw = bytearray((tmp_path / "a.nii").read_bytes())
        for slope in (1e38, 3e37):
            raw[112:116] = struct.pack("<f", slope)
            (tmp_path / "a.nii").write_bytes(raw)
            with pytest.raises(BadInputError, match=r"a\.nii holds \d+ voxels (that are NaN|beyond)"):
                read_image(tmp_path / "a.nii")

    def test_a_tiny_slope_does_not_empty_the_image(self, tmp_path: Path) -> None:
        image = nib.Nifti2Image(np.full((2, 3, 4), 2e4, np.float32), np.eye(4))
        image.header["scl_slope"], image.header["scl_inter"] = 1e-4, 0
        nib.save(image, tmp_path / "a.nii")
        raw = bytearray((tmp_path / "a.nii").read_bytes())
        header = nib.Nifti2Header(bytes(raw[:540]), check=False)
        header["scl_slope"] = 1e-46  # below what single precision holds
        data = np.full((2, 3, 4), 1e17, np.float32)
        header["scl_inter"] = 0
        (tmp_path / "a.nii").write_bytes(header.binaryblock + raw[540:544] + data.tobytes())
        np.testing.assert_allclose(read_image(tmp_path / "a.nii").array, 1e-29, rtol=1e-5)

    def test_what_scanners_measure_passes(self, tmp_path: Path) -> None:
        array = np.array([-1e9, 0, 1e-12, 1e12], np.float64).reshape(1, 1, 2, 2)  # PET in Bq/ml, maps in SI units
        write_image(Image(array, Geometry((1, 2, 2), (1, 1, 1))), tmp_path / "a.nrrd")
        assert np.array_equal(read_image(tmp_path / "a.nrrd").array, array)


def header_for(shape: tuple[int, ...], **fields: float) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype("int16")
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for field, value in fields.items():
        header[field] = value
    return header.binaryblock + b"\0" * 4


def peak_of(path: Path, match: str) -> int:
    """Bytes that Python and NumPy held at most while the file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(BadInputError, match=match):
            read_image(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MB = 1 << 20


class TestBombs:
    def test_a_gzip_that_goes_on_for_ever_after_its_voxels(self, tmp_path: Path) -> None:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header_for((8, 8, 8)) + bytes(100 * MB)))
        assert peak_of(tmp_path / "a.nii.gz", "far more data than its header says") < 20 * MB

    def test_voxels_that_begin_gigabytes_later(self, tmp_path: Path) -> None:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header_for((8, 8, 8), vox_offset=1e8) + bytes(100 * MB)))
        assert peak_of(tmp_path / "a.nii.gz", "no header reaches to") < 20 * MB

    def test_zeros_are_not_kept_until_all_are_there(self) -> None:
        promised, there = 300 * MB, 200 * MB
        packed = zlib.compress(bytes([7]) * there, 9)
        with pytest.raises(BadInputError, match=r"x is truncated: its header promises"):
            read_exactly(raw_data.ZlibStream(io.BytesIO(packed)), promised, "x")

    @pytest.fixture
    def bound(self) -> Iterator[None]:
        """64 MB of the same are too much here."""
        token = raw_data._most_repeated.set(64 * MB)
        yield
        raw_data._most_repeated.reset(token)

    @pytest.mark.parametrize("value", [b"\0", b"\1"])
    def test_gigabytes_of_one_value_cost_a_tenth_of_their_unpacking(self, value: bytes, tmp_path: Path) -> None:
        """A file of 3 MB that holds 3 GB: told after 256 MB for an image, after 1 GB for a map of labels."""
        packer = zlib.compressobj(1, wbits=31)
        packed = packer.compress(header_for((1024, 1024, 3072)))
        block = value * (64 * MB)
        path = tmp_path / "a.nii.gz"
        path.write_bytes(packed + b"".join(packer.compress(block) for _ in range(48)) + packer.flush())
        seen = []
        for read in (read_image, read_labels):
            with pytest.raises(BadInputError, match="repeats the same bytes for") as refused:
                read(path)
            seen.append(int(re.findall(r"for (\d+) MiB", str(refused.value))[0]))
        assert 256 <= seen[0] <= 264 and 1024 <= seen[1] <= 1032

    @pytest.mark.parametrize("value", [b"\0", b"\1", b"ab"])
    def test_much_of_the_same_is_no_image(self, value: bytes, bound: None) -> None:
        for packed in (True, False):
            data = value * (100 * MB // len(value))
            stream = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data, 1))) if packed else io.BytesIO(data)
            with pytest.raises(BadInputError, match="repeats the same bytes"):
                read_exactly(stream, len(data), "x")

    def test_a_large_map_that_is_empty_but_for_a_little_is_read(self, bound: None) -> None:
        data = bytearray(90 * MB)
        data[50 * MB] = 1
        assert np.array_equal(read_exactly(io.BytesIO(bytes(data)), len(data), "x"), np.frombuffer(data, np.uint8))

    def test_more_than_the_machine_has_is_refused_before(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
        write_image(Image(np.ones((1, 10, 10, 11), np.uint8), Geometry((10, 10, 11), (1, 1, 1))), tmp_path / "a.nii")
        with pytest.raises(BadInputError, match=r"a\.nii unpacks to 0\.0 GB and less memory is free"):
            read_image(tmp_path / "a.nii")

    def test_a_numpy_header_of_gigabytes_is_not_read(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", b"\x93NUMPY\x02\0" + struct.pack("<I", 100 * MB) + b" " * (100 * MB))
        assert peak_of(tmp_path / "a.npz", "not a NumPy array file") < 20 * MB

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_packings_without_a_known_limit_are_not_read(self, method: int, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((3, 3)))
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("a.npy", buffer.getvalue())
        with pytest.raises(BadInputError, match="packed in a way that is not read"):
            read_image(tmp_path / "a.npz")

    def test_tiff_strips_that_lie_over_each_other_hold_no_more_than_one(self, tmp_path: Path) -> None:
        strip, count = zlib.compress(bytes(1024 * 1024), 9), 64
        entries, at = [], 8 + len(strip)
        offsets = struct.pack(f"<{count}I", *[8] * count)
        counts = struct.pack(f"<{count}I", *[len(strip)] * count)
        for tag, kind, number, value in (
            (256, 4, 1, 1024),
            (257, 4, 1, 1024 * count),
            (258, 3, 1, 8),
            (259, 3, 1, 8),
            (262, 3, 1, 1),
            (273, 4, count, at),
            (277, 3, 1, 1),
            (278, 4, 1, 1024),
            (279, 4, count, at + len(offsets)),
        ):
            entries.append(struct.pack("<HHII", tag, kind, number, value))
        ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
        place = at + len(offsets) + len(counts)
        (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", place) + strip + offsets + counts + ifd)
        assert peak_of(tmp_path / "a.tif", "cannot hold them") < 20 * MB

    def test_a_blank_picture_of_hundreds_of_megabytes(self, tmp_path: Path) -> None:
        row, packer = b"\0" * (3 * 10_000 + 1), zlib.compressobj(9)
        body = b"".join(packer.compress(row) for _ in range(10_000)) + packer.flush()

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        size = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
        parts = chunk(b"IHDR", size) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        assert peak_of(tmp_path / "a.png", "would unpack from") < 20 * MB

    def test_a_blank_tiff_of_hundreds_of_megabytes(self, tmp_path: Path) -> None:
        blank = np.broadcast_to(np.uint8(0), (300, 1024, 1024))
        tifffile.imwrite(tmp_path / "a.tif", blank, compression="zlib", rowsperstrip=1024)
        assert peak_of(tmp_path / "a.tif", "would unpack from") < 20 * MB


class TestHeadersOfText:
    @pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
    def test_a_header_that_names_itself_is_refused(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{ending}"
        lines = (
            ["NRRD0004", "type: uchar", "dimension: 2", "sizes: 2 2", "encoding: raw", "data file: a.nhdr", "", ""]
            if ending == ".nhdr"
            else ["NDims = 2", "DimSize = 2 2", "ElementType = MET_UCHAR", "ElementDataFile = a.mhd", ""]
        )
        path.write_text("\n".join(lines))
        with pytest.raises(BadInputError, match="names itself as the file of its voxels"):
            read_image(path)

    @pytest.mark.parametrize(
        "line",
        [
            "byte skip:",
            "byte skip: 99999999999999999999",
            "byte skip: 1 2",
            "byte skip: x",
            "line skip:",
            "line skip: -1",
            "line skip: 99999999999",
            "line skip: 10000",
            "spacings: 1e400 1",
            "spacings: 1e200 1",
            "space directions: () ()",
            "space directions: (1,0) (0,x)",
            "space origin: (inf,0)",
            "dimension:",
            "dimension: 99999999999999999999",
            "sizes:",
            "sizes: 2",
            "sizes: 0 0",
        ],
    )
    def test_empty_and_absurd_fields_of_an_nrrd(self, line: str, tmp_path: Path) -> None:
        fields = {"type": "uchar", "dimension": "2", "sizes": "2 2", "encoding": "raw", "space": "LPS"}
        fields["space directions"] = "(1,0) (0,1)"
        key, _, value = line.partition(":")
        if key == "spacings":
            del fields["space directions"]
        fields[key] = value.strip()
        text = "\n".join(["NRRD0004", *(f"{name}: {text}" for name, text in fields.items())])
        (tmp_path / "a.nrrd").write_bytes(text.encode() + b"\n\n" + bytes(4))
        with pytest.raises(BadInputError, match=r"^a\.nrrd (?!cannot be read)"):  # foreseen, not caught by the net
            read_image(tmp_path / "a.nrrd")

    @pytest.mark.parametrize(
        "line",
        [
            "NDims =",
            "NDims = 2 2",
            "NDims = 99999999999999999999",
            "DimSize =",
            "DimSize = 2",
            "DimSize = -2 2",
            "ElementNumberOfChannels =",
            "ElementNumberOfChannels = 0",
            "ElementNumberOfChannels = 99",
            "ElementNumberOfChannels = -1",
            "HeaderSize =",
            "HeaderSize = 99999999999999999999",
            "HeaderSize = -7",
            "ElementSpacing =",
            "ElementSpacing = 1e400 1",
            "ElementSpacing = 0 1",
            "Offset = nan 0",
            "TransformMatrix = 1 0 0",
            "ElementType =",
        ],
    )
    def test_empty_and_absurd_fields_of_a_metaimage(self, line: str, tmp_path: Path) -> None:
        fields = {"NDims": "2", "DimSize": "2 2", "ElementType": "MET_UCHAR", "TransformMatrix": "1 0 0 1"}
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
        text = "\n".join(f"{name} = {text}" for name, text in fields.items()) + "\nElementDataFile = LOCAL\n"
        (tmp_path / "a.mha").write_bytes(text.encode() + bytes(4))
        with pytest.raises(BadInputError, match=r"^a\.mha (?!cannot be read)"):
            read_image(tmp_path / "a.mha")

    @pytest.mark.parametrize("shape", [(1,) * 100, (2**40, 2**40), (1, 2**62, 4), (0, 2**63), (2, 2, 2, 2, 2)])
    def test_shapes_that_no_array_has(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
        (tmp_path / "a.npy").write_bytes(buffer.getvalue() + bytes(64))
        with pytest.raises(BadInputError, match=r"^a\.npy (?!cannot be read)"):
            read_image(tmp_path / "a.npy")
