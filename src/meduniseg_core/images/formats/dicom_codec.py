"""Compressed DICOM frames: their own headers are checked, then GDCM decodes them in a separate process.

A damaged stream can make a decoder loop for ever, take gigabytes or crash. In a process that can be ended, this costs
one frame and not the program.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, cast

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats.dicom_source import pixel_bytes
from meduniseg_core.images.formats.raw_data import claimed_bytes

_COPIED = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PhotometricInterpretation"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    "SegmentedBluePaletteColorLookupTableData",
)
_END = b"\xff\xd9"  # of every JPEG; decoders fill up what is missing before it without a word
_JPEG_2000 = b"\xff\x4f"  # how its codestream begins
_START_SECONDS = 60.0
_FRAME_SECONDS = 8.0
_BYTES_A_SECOND = 1 << 21  # on top, for large frames: JPEG 2000 on a slow machine


class FrameDecoder:
    """Decodes frames through GDCM in a process of its own, which the first frame starts and ``close`` ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> FrameDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def decode(self, dataset: Dataset, frame: bytes, colour: bool, name: str) -> np.ndarray | None:
        """Decode one frame.

        Args:
            dataset: The file's header, with the transfer syntax in ``file_meta``.
            frame: The frame's bytes.
            colour: Whether the frame has three values a pixel.
            name: The file's name, for messages.

        Returns:
            Stored values ``(H, W)``, or ``(H, W, 3)`` for ``colour``; None where GDCM cannot decode the frame.

        Raises:
            BadInputError: The frame's own header does not match the file's, the frame is damaged, or decoding takes too
                long.
        """
        compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
        if compressed:
            frame = _checked(dataset, frame, name)
        frames = max(int(dataset.get("NumberOfFrames") or 1), 1)
        room = pixel_bytes(dataset) // frames
        process, folder = self._started(name)
        path = Path(folder.name) / "frame.dcm"
        _single_frame(dataset, frame, compressed).save_as(path, enforce_file_format=True)
        request = json.dumps({"path": str(path), "room": room}).encode() + b"\n"
        answer = self._asked(process, request, room, name)
        if answer is None:
            if frame.startswith(_JPEG_2000) and not _ends(frame):  # some that decode have no end, so it comes second
                raise _broken_off(name)
            return None
        shape, dtype, data = answer
        wanted = (int(dataset.Rows), int(dataset.Columns), *((3,) if colour else ()))
        if tuple(size for size in shape if size > 1) != tuple(size for size in wanted if size > 1):
            return None
        return np.frombuffer(data, dtype=dtype).reshape(wanted)

    def _started(self, name: str) -> tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str]]:
        if self._process is not None and self._folder is not None:
            return self._process, self._folder
        self._folder = tempfile.TemporaryDirectory(prefix="meduniseg-")
        script = Path(__file__).with_name("dicom_decoder.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
        )
        with _Deadline(self._process, _START_SECONDS):
            ready = cast(IO[bytes], self._process.stdout).readline()
        if ready != b"ready\n":
            self.close()
            raise BadInputError(f"{name} is compressed and its decoder does not start; export it uncompressed.")
        return self._process, self._folder

    def _asked(
        self, process: subprocess.Popen[bytes], request: bytes, room: int, name: str
    ) -> tuple[tuple[int, ...], str, bytes] | None:
        stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        seconds = _FRAME_SECONDS + room / _BYTES_A_SECOND
        with _Deadline(process, seconds) as deadline:
            try:
                stdin.write(request)
                stdin.flush()
                reply = json.loads(stdout.readline() or "{}")
                size = claimed_bytes(reply["shape"], np.dtype(reply["dtype"]).itemsize) if "shape" in reply else 0
                data = stdout.read(size)
            except OSError:
                reply, size, data = {}, 0, b""
        if deadline.passed:
            self.close()
            raise BadInputError(
                f"{name} is damaged: its compressed pixels were not decoded within {seconds:.0f} s; export it again."
            )
        if reply.get("error") is not None:
            return None
        if "shape" not in reply or len(data) < size:
            self.close()
            raise BadInputError(f"{name} is damaged: its decoder failed on its compressed pixels; export it again.")
        return tuple(reply["shape"]), reply["dtype"], data


class _Deadline:
    """Ends ``process`` where the block takes longer than ``seconds``: reading from it then returns."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._process = process
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        self.passed = True
        self._process.kill()

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()


def _single_frame(dataset: Dataset, frame: bytes, compressed: bool) -> FileDataset:
    """A file of this frame alone and what decoding needs: GDCM meets no other element, and no rescaling."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    single = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    single.SOPClassUID, single.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    for keyword in _COPIED:
        if dataset.get(keyword) is not None:
            setattr(single, keyword, dataset[keyword].value)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        single.PhotometricInterpretation = "MONOCHROME2"
    single.PixelData = encapsulate([frame]) if compressed else frame
    if compressed:
        single["PixelData"].is_undefined_length = True
        single["PixelData"].VR = "OB"
    else:
        single["PixelData"].VR = dataset["PixelData"].VR
    return single


def _checked(dataset: Dataset, frame: bytes, name: str) -> bytes:
    """The frame's codestream (without a JP2 wrapping), once its own size is that of the data set."""
    if frame[4:8] == b"jP  ":
        frame = _codestream(frame, name)
    jpeg_2000 = frame.startswith(_JPEG_2000)
    size = _jpeg_2000_size(frame) if jpeg_2000 else _jpeg_size(frame)
    if size is not None and not jpeg_2000 and not _ends(frame):
        raise _broken_off(name)
    wanted = (int(dataset.Rows), int(dataset.Columns))
    if size is not None and size != wanted:
        raise BadInputError(
            f"{name} is damaged: its header promises {wanted[0]}x{wanted[1]} pixels and its compressed data "
            f"{size[0]}x{size[1]}; export it again."
        )
    return frame


def _broken_off(name: str) -> BadInputError:
    return BadInputError(f"{name} is truncated: its compressed pixels break off; copy or export it again.")


def _ends(frame: bytes) -> bool:
    return _END in frame.rstrip(b"\0")[-16:]


def _codestream(frame: bytes, name: str) -> bytes:
    """What the ``jp2c`` box of a JP2 file holds: DICOM stores that alone."""
    place = 0
    while place + 8 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, place)
        head = 8
        if length == 1 and place + 16 <= len(frame):
            length, head = struct.unpack_from(">Q", frame, place + 8)[0], 16
        if kind == b"jp2c":
            return frame[place + head : place + length if length else len(frame)]
        if length < head:
            break
        place += length
    raise BadInputError(f"{name} is damaged: its JPEG 2000 boxes break off; export it again.")


def _jpeg_2000_size(frame: bytes) -> tuple[int, int] | None:
    if len(frame) < 24 or frame[2:4] != b"\xff\x51":
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG's or JPEG-LS's frame header; None where this is no JPEG (RLE)."""
    if not frame.startswith(b"\xff\xd8"):
        return None
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            break
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        place += 2 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return 0, 0
