"""Hostile DICOM: one sentence, soon, in little memory, whatever the lengths and streams in the file claim."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_making import dataset_of, enhanced, frame_item, save
from PIL import Image as PillowImage
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import find_cases, read_image
from meduniseg_core.images.formats.dicom_codec import FrameDecoder

SIZE = (40, 56)

READ = """
import json, resource, sys
from pathlib import Path
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image
try:
    said = str(read_image(sys.argv[1]).array.shape)
except BadInputError as error:
    said = str(error)
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
seconds = sum(item.ru_utime + item.ru_stime for item in usage)
peaks = [item.ru_maxrss >> 10 for item in usage]
status = Path("/proc/self/status")
if status.is_file():  # ru_maxrss of a new process begins with that of the process that started it
    peaks[0] = int(status.read_text().split("VmHWM:")[1].split()[0]) >> 10
print(json.dumps({"said": said, "megabytes": sum(peaks), "seconds": seconds}))
"""


def encoded(kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_packed(path: Path, frames: list[bytes], syntax: str, rows: int, columns: int, **elements: Any) -> Path:
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    dataset = dataset_of(Rows=rows, Columns=columns, PixelData=encapsulate(frames), **eight, **elements)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
    return save(dataset, path)


def j2k(side: int | None = None, tile: int | None = None) -> bytes:
    stream = bytearray(encoded("JPEG2000", no_jp2=True))
    if side is not None:
        struct.pack_into(">II", stream, 8, side, side)
    if tile is not None:
        struct.pack_into(">II", stream, 24, tile, tile)
    return bytes(stream)


def jpeg(side: int) -> bytes:
    stream = encoded("JPEG")
    place = stream.index(b"\xff\xc0") + 5
    return stream[:place] + struct.pack(">HH", side, side) + stream[place + 4 :]


def write_deflated(path: Path, zeros: int, rows: int, columns: int, beside: int = 0) -> Path:
    """A deflated file with ``zeros`` bytes of pixels, before them a private element of ``beside`` bytes."""
    dataset = dataset_of(Rows=rows, Columns=columns, PixelData=None, BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head, meta = DicomBytesIO(), DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    write_dataset(head, pydicom.Dataset(dict(dataset.items())))
    write_file_meta_info(meta, dataset.file_meta)
    pack = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [pack.compress(head.getvalue())]
    for group, element, length in ((0x6001, 0x10, beside), (0x7FE0, 0x10, zeros)):
        if length:
            parts.append(pack.compress(struct.pack("<HH2sHI", group, element, b"OB", 0, length)))
        for first in range(0, length, 1 << 22):
            parts.append(pack.compress(bytes(min(1 << 22, length - first))))
    path.write_bytes(b"\0" * 128 + b"DICM" + meta.getvalue() + b"".join([*parts, pack.flush()]))
    return path


BOMBS = {
    "deflated, honest": (lambda p: write_deflated(p, 1_200_000_000, 30000, 40000), "claims 1,200,000,000 bytes"),
    "deflated, more than it says": (lambda p: write_deflated(p, 1_200_000_000, *SIZE), r"\(1, 1, 40, 56\)"),
    "deflated, beside": (lambda p: write_deflated(p, 2240, *SIZE, beside=1_200_000_000), "pixels are missing"),
    "jpeg": (lambda p: write_packed(p, [jpeg(65500)], JPEGBaseline8Bit, 65500, 65500), "cannot hold"),
    "jpeg 2000": (lambda p: write_packed(p, [j2k(60000)], JPEG2000Lossless, 60000, 60000), "cannot hold"),
    "padded": (
        lambda p: write_packed(p, [j2k(60000) + bytes(6_000_000)], JPEG2000Lossless, 60000, 60000),
        "cannot hold",
    ),
    "stream larger than said": (
        lambda p: write_packed(p, [j2k(60000)], JPEG2000Lossless, *SIZE),
        "promises 40x56 pixels and its compressed data 60000x60000",
    ),
    "tiny tiles": (lambda p: write_packed(p, [j2k(5700, 23)], JPEG2000Lossless, 5700, 5700), "decode"),
    "run lengths": (
        lambda p: write_packed(p, [struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 500], RLELossless, 20000, 20000),
        "cannot hold",
    ),
    "frames": (
        lambda p: write_packed(p, [j2k()], JPEG2000Lossless, *SIZE, NumberOfFrames=60000),
        "cannot hold",
    ),
    "two thousand million frames": (lambda p: save(dataset_of(NumberOfFrames=2_000_000_000), p), "too many"),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.skipif(sys.platform == "win32", reason="asks for the memory that was taken")
def test_bombs_end_with_one_sentence_in_little_memory(bomb: str, tmp_path: Path) -> None:
    make, reason = BOMBS[bomb]
    path = make(tmp_path / "bomb.dcm")
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["megabytes"] < 900
    assert report["seconds"] < 20
    assert re.search(reason, report["said"]), report["said"]


@pytest.mark.parametrize("case", ["dcm_j2k_hang.dcm", "d335ff29.dcm"])
def test_the_hostile_files_that_were_found_are_refused(case: str, shared_data: Path) -> None:
    with pytest.raises(BadInputError, match=rf"^{case} is damaged: "):
        read_image(shared_data.parent / "cases" / "hostile" / case)


def test_a_wrapped_codestream_is_read_and_broken_boxes_are_not_followed(tmp_path: Path) -> None:
    wrapped = encoded("JPEG2000")
    assert wrapped[4:8] == b"jP  "
    image = read_image(write_packed(tmp_path / "x", [wrapped], JPEG2000Lossless, *SIZE))
    assert np.array_equal(image.array[0, 0] + 1024, np.random.default_rng(0).integers(0, 255, SIZE))
    for length in (0, 1, 7, 0xFFFFFFFF):
        broken = struct.pack(">I", length) + wrapped[4:]
        with pytest.raises(BadInputError, match="boxes break off"):
            read_image(write_packed(tmp_path / "y", [broken], JPEG2000Lossless, *SIZE))


def test_a_jpeg_that_breaks_off_is_not_filled_up(tmp_path: Path) -> None:
    whole = encoded("JPEG")
    with pytest.raises(BadInputError, match="x is truncated: its compressed pixels break off"):
        read_image(write_packed(tmp_path / "x", [whole[: len(whole) * 2 // 3]], JPEGBaseline8Bit, *SIZE))


def test_a_decoder_that_hangs_or_dies_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import meduniseg_core.images.formats.dicom_codec as codec

    path = write_packed(tmp_path / "x.dcm", [encoded("JPEG")], JPEGBaseline8Bit, *SIZE)
    dataset = pydicom.dcmread(path)
    folder = tmp_path / "decoder"
    folder.mkdir()
    monkeypatch.setattr(codec, "_FRAME_SECONDS", 0.5)
    monkeypatch.setattr(codec, "__file__", str(folder / "dicom_codec.py"))
    frame = encoded("JPEG")
    for ending, reason in (
        ("import time; time.sleep(60)", "within 1 s|within 0 s"),
        ("raise SystemExit", "decoder failed"),
    ):
        script = f"import sys; print('ready', flush=True); sys.stdin.readline(); {ending}"
        (folder / "dicom_decoder.py").write_text(script)
        began = time.perf_counter()
        with FrameDecoder() as decoder, pytest.raises(BadInputError, match=rf"x\.dcm is damaged.*({reason})"):
            decoder.decode(dataset, frame, False, "x.dcm")
        assert time.perf_counter() - began < 10


@pytest.mark.parametrize("kind", ["enhanced", "packed"])
def test_flipped_bytes_raise_nothing_but_our_own_errors(kind: str, tmp_path: Path) -> None:
    if kind == "packed":
        raw = write_packed(tmp_path / "x", [encoded("JPEG")], JPEGBaseline8Bit, *SIZE).read_bytes()
        trials, first = 25, len(raw) - 900
    else:
        frames = [frame_item(PlanePosition={"ImagePositionPatient": [0, 0, 2.0 * n]}) for n in range(4)]
        raw = save(enhanced(frames, np.zeros((4, 5, 6))), tmp_path / "x").read_bytes()
        trials, first = 400, 0
    random = np.random.default_rng(1)
    refused = 0
    for trial in range(trials):
        damaged = bytearray(raw)
        for place in random.integers(first, len(raw), 1 + trial % 5):
            damaged[place] = int(random.integers(0, 256))
        if trial % 6 == 0:
            damaged = damaged[: int(random.integers(0, len(raw)))]
        (tmp_path / "x").write_bytes(damaged)
        try:
            read_image(tmp_path / "x")
        except BadInputError as error:
            refused += 1
            assert "x" in str(error) and "\n" not in str(error)
        try:
            find_cases(tmp_path)
        except BadInputError:
            continue
    assert refused > trials // 10


def test_text_of_the_header_cannot_forge_a_second_line(tmp_path: Path) -> None:
    save(dataset_of(SeriesDescription="a\x1b[2Jb"), tmp_path / "a")
    dataset = dataset_of(SeriesInstanceUID="1.2", Modality="CT", SeriesDescription="evil")
    save(dataset, tmp_path / "b")
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes().replace(b"evil", b"e\nil"))
    with pytest.raises(BadInputError, match="holds 2 series") as caught:
        read_image(tmp_path)
    assert str(caught.value).isprintable()
