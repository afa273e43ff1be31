"""Voxel bytes out of files written by strangers: nothing is allocated before the file's size vouches for it."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
import psutil

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images.checks import brief

DEFLATE_LIMIT = 1032
"""Deflate never expands a byte to more than this many (a run of 258 from two bits): more is a lie."""

BZIP2_LIMIT = 48_000
"""bzip2 packs up to 900 kB of equal bytes into about forty: the same bound for that encoding, with some slack."""

_BLOCK = 1 << 22
_MUCH = 1 << 28
_MOST_EXPANSION = 200

MOST_REPEATED = 1 << 28
"""Bytes of one value (or one repeated block) that an image may have in one piece: more is a file made to fill memory,
told after a tenth of its unpacking."""

MOST_REPEATED_LABELS = 1 << 30
"""The same for label maps, which are mostly background: of float64 and a whole body, say."""

_most_repeated = ContextVar("most_repeated", default=MOST_REPEATED)


@contextmanager
def reading_labels() -> Iterator[None]:
    """What is read within may repeat its bytes as a label map does.

    Yields:
        Nothing.
    """
    token = _most_repeated.set(MOST_REPEATED_LABELS)
    try:
        yield
    finally:
        _most_repeated.reset(token)


class ByteStream(Protocol):
    """What is needed of an open file: ``read``."""

    def read(self, size: int = -1, /) -> bytes: ...


def claimed_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Bytes an array of ``shape`` takes, in Python's integers (a product in int64 may wrap round)."""
    total = int(itemsize)
    for size in shape:
        total *= int(size)
    return total


def check_claim(name: str, claimed: int, available: int, limit: int = 1) -> None:
    """Refuse a header that claims more than ``available`` bytes times ``limit`` can hold."""
    if claimed > available * limit:
        raise BadInputError(
            f"{name} is truncated or its header is wrong: it claims {claimed:,} bytes of voxels and the file's "
            f"{available:,} bytes cannot hold them; copy or export the file again."
        )


def check_expansion(name: str, claimed: int, available: int) -> None:
    """Refuse hundreds of megabytes out of next to nothing, where a library unpacks and cannot be stopped.

    No picture shrinks to a two-hundredth; a blank one does, and files that are made to fill memory.
    """
    if claimed > _MUCH and claimed > _MOST_EXPANSION * available:
        raise BadInputError(
            f"{name} would unpack from {available:,} to {claimed:,} bytes, as no picture does; export the file again."
        )


def open_maybe_gzip(path: Path) -> tuple[IO[bytes], bool]:
    """Open ``path`` for reading; a gzip file is known by its first two bytes, whatever its name."""
    stream = open_regular(path)
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if not packed:
        return stream, False
    return cast(IO[bytes], _OwningGzip(stream)), True


class _OwningGzip(gzip.GzipFile):
    """A GzipFile that closes the stream it was given."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._owned = stream

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._owned.close()


def read_exactly(stream: ByteStream, size: int, name: str) -> np.ndarray:
    """``size`` bytes as a uint8 array; BadInputError where the stream ends or breaks before, or memory is too small.

    Memory is taken as data come that are worth it: runs of one value, of which a small packed file can hold gigabytes,
    are written once all the promised bytes were seen (zeros never: fresh memory is zero).
    """
    buffer = _memory(size, name)
    runs: list[tuple[int, int, int]] = []
    done = repeated = 0
    last: bytes | int = b""
    try:
        while done < size:
            data = stream.read(min(_BLOCK, size - done))
            if not data:
                break
            block = np.frombuffer(data, dtype=np.uint8)
            one_value = bool(block[0] == block[-1]) and bool((block == block[0]).all())
            content: bytes | int = int(block[0]) if one_value else data
            repeated = repeated + block.size if content == last else 0
            last = content
            if repeated > _most_repeated.get():
                raise BadInputError(
                    f"{name} repeats the same bytes for {repeated >> 20} MiB, as no image does; export the file again."
                )
            if isinstance(content, int):
                runs.append((done, done + block.size, content))
            else:
                buffer[done : done + block.size] = block
            done += block.size
    except (EOFError, zlib.error, OSError) as error:
        raise BadInputError(
            f"{name} is truncated or damaged: its packed data breaks off ({brief(error)}); copy or export it again."
        ) from error
    if done < size:
        raise BadInputError(
            f"{name} is truncated: its header promises {size:,} bytes of voxels and {done:,} are there; "
            "copy or export the file again."
        )
    for start, stop, value in runs:
        if value:
            buffer[start:stop] = value
    return buffer


def skip(stream: ByteStream, size: int, name: str) -> None:
    """Pass over ``size`` bytes, keeping none; BadInputError where the stream ends or breaks before."""
    while size > 0:
        size -= read_exactly(stream, min(_BLOCK, size), name).size


def check_memory(size: int, name: str) -> None:
    """Refuse ``size`` bytes that the machine does not have free."""
    free = psutil.virtual_memory().available
    if size > free:
        raise _too_large(size, name)


def _memory(size: int, name: str) -> np.ndarray:
    check_memory(size, name)
    try:
        return np.zeros(size, dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        raise _too_large(size, name) from error


def _too_large(size: int, name: str) -> BadInputError:
    return BadInputError(
        f"{name} unpacks to {size / 1e9:,.1f} GB and less memory is free; crop it, or use a machine with more memory."
    )


def read_to_end(stream: ByteStream, most: int, name: str) -> None:
    """Read what is left, which makes gzip compare its checksum; more than ``most`` bytes are refused."""
    left = most
    try:
        while block := stream.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise BadInputError(
                    f"{name} holds far more data than its header says, so the header is wrong; export the file again."
                )
    except (EOFError, zlib.error, OSError) as error:
        raise BadInputError(f"{name} is truncated or damaged ({brief(error)}); copy or export it again.") from error


class ZlibStream:
    """``read`` of a zlib or gzip stream that begins at the stream's position and has no end mark of its own."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=47)

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; empty at the end. zlib.error where the data are damaged."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(1 << 16)
            block = self._inflate.decompress(packed, max(size, 0))
            if block:
                return block
            if not packed:
                raise EOFError("the stream ends before its checksum")
        return b""


def unpacked(stream: IO[bytes], encoding: str) -> tuple[ByteStream, int]:
    """The stream behind ``encoding`` (``raw``, ``gzip`` or ``bzip2``) and the most one of its bytes can expand to."""
    if encoding == "gzip":
        return ZlibStream(stream), DEFLATE_LIMIT
    if encoding == "bzip2":
        return bz2.BZ2File(stream), BZIP2_LIMIT
    return stream, 1
