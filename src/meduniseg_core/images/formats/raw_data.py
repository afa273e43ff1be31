"""Reading voxels from untrusted files: nothing is allocated unless the file is large enough to hold it."""

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

from meduniseg_core.allowance import available_memory
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images.checks import brief

DEFLATE_LIMIT = 1032
"""Deflate never expands one byte to more than this many (a run of 258 from two bits)."""

BZIP2_LIMIT = 48_000
"""The same bound for bzip2, with some slack: it packs up to 900 kB of equal bytes into about forty."""

_BLOCK = 1 << 22
_MUCH = 1 << 28
_MOST_EXPANSION = 200

MOST_REPEATED = 1 << 28
"""The longest run of one value (or one repeated block) in an image, in bytes. A longer run means a file made to fill
memory; the limit stops it early."""

MOST_REPEATED_LABELS = 1 << 30
"""The same for label maps, which are mostly background (a whole body in float64, say)."""

_most_repeated = ContextVar("most_repeated", default=MOST_REPEATED)


@contextmanager
def reading_labels() -> Iterator[None]:
    """Allow files that are read within to repeat their bytes as label maps do.

    Yields:
        Nothing.
    """
    token = _most_repeated.set(MOST_REPEATED_LABELS)
    try:
        yield
    finally:
        _most_repeated.reset(token)


class ByteStream(Protocol):
    """An open file, or anything else with its ``read``."""

    def read(self, size: int = -1, /) -> bytes:
        """Read bytes.

        Args:
            size: The most to read; -1 for all.

        Returns:
            The bytes; empty at the end.
        """


class Bounded:
    """A stream that is never asked for more than it has: lengths in damaged headers reach 4 GB."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        """Read bytes.

        Args:
            size: The most to read; -1 for all.

        Returns:
            The bytes; empty at the end.
        """
        return self._stream.read(self._allowed(size))

    def readline(self, size: int = -1) -> bytes:
        """Read a line, which Pillow asks for to find out what a file is.

        Args:
            size: The most to read; -1 for the whole line.

        Returns:
            The line with its end; empty at the end.
        """
        return self._stream.readline(self._allowed(size))

    def _allowed(self, size: int | None) -> int:
        left = max(self._size - self._stream.tell(), 0)
        return left if size is None or size < 0 else min(size, left)


def claimed_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Compute how many bytes an array takes.

    Args:
        shape: Its sizes.
        itemsize: Bytes of one element.

    Returns:
        The bytes, in Python's integers: a product in int64 may wrap round.
    """
    total = int(itemsize)
    for size in shape:
        total *= int(size)
    return total


def check_claim(name: str, claimed: int, available: int, limit: int = 1) -> None:
    """Check that a file can hold what its header claims.

    Args:
        name: The file's name, for the message.
        claimed: Bytes that the header claims.
        available: Bytes that the file has.
        limit: How far one of those can expand.

    Raises:
        BadInputError: The file cannot hold that much.
    """
    if claimed > available * limit:
        raise BadInputError(
            f"{name} is truncated or its header is wrong: it claims {claimed:,} bytes of voxels and the file's "
            f"{available:,} bytes cannot hold them; copy or export the file again."
        )


def check_expansion(name: str, claimed: int, available: int) -> None:
    """Check that a file does not unpack to hundreds of megabytes from next to nothing.

    This is for libraries that unpack a file in one go. No real picture shrinks to a two-hundredth; blank pictures do,
    and so do files made to fill memory.

    Args:
        name: The file's name, for the message.
        claimed: Bytes after unpacking.
        available: Bytes that the file has.

    Raises:
        BadInputError: The file would unpack so far.
    """
    if claimed > _MUCH and claimed > _MOST_EXPANSION * available:
        raise BadInputError(
            f"{name} would unpack from {available:,} to {claimed:,} bytes, as no picture does; export the file again."
        )


def open_maybe_gzip(path: Path) -> tuple[IO[bytes], bool]:
    """Open a file that may be packed with gzip, which its first two bytes tell, whatever its name.

    Args:
        path: The file.

    Returns:
        The stream of unpacked bytes, and whether the file is packed.

    Raises:
        BadInputError: The file cannot be opened.
    """
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
    """Read bytes from a stream.

    Memory is used only as data arrive that need it: runs of one value, of which a small packed file can hold gigabytes,
    are written once all promised bytes were seen (zeros never are: fresh memory is zero).

    Args:
        stream: The stream.
        size: How many bytes to read.
        name: The file's name, for messages.

    Returns:
        uint8, ``(size,)``.

    Raises:
        BadInputError: The stream ends too early or is damaged, repeats the same bytes as no image does, or memory is
            too small.
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
    """Pass over bytes of a stream without keeping them.

    Args:
        stream: The stream.
        size: How many bytes to pass over.
        name: The file's name, for messages.

    Raises:
        BadInputError: The stream ends too early or is damaged.
    """
    while size > 0:
        size -= read_exactly(stream, min(_BLOCK, size), name).size


def check_memory(size: int, name: str) -> None:
    """Check that this process can have the memory.

    Args:
        size: Bytes that are needed.
        name: The file's name, for the message.

    Raises:
        BadInputError: Less is free.
    """
    if size > available_memory():
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


def read_to_end(stream: ByteStream, most: int, name: str) -> int:
    """Read the rest of a stream, which makes gzip compare its checksum.

    Args:
        stream: The stream.
        most: The most bytes that may be left.
        name: The file's name, for the message.

    Returns:
        How many bytes were left.

    Raises:
        BadInputError: More bytes are left, or the data are damaged.
    """
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
    return most - left


class ZlibStream:
    """Unpacks a zlib or gzip stream that begins where another stream stands."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=47)

    def read(self, size: int = -1, /) -> bytes:
        """Read unpacked bytes.

        Args:
            size: The most to read; 0 or less for any number.

        Returns:
            The bytes; empty at the end.

        Raises:
            EOFError: The packed data break off.
            zlib.error: The packed data are damaged.
        """
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(1 << 16)
            block = self._inflate.decompress(packed, max(size, 0))
            if block:
                return block
            if not packed:
                raise EOFError("the stream ends before its checksum")
        return b""


def unpacked(stream: IO[bytes], encoding: str) -> tuple[ByteStream, int]:
    """Unpack a stream.

    Args:
        stream: The packed stream.
        encoding: ``raw``, ``gzip`` or ``bzip2``.

    Returns:
        The unpacked stream, and the most bytes that one packed byte can expand to.
    """
    if encoding == "gzip":
        return ZlibStream(stream), DEFLATE_LIMIT
    if encoding == "bzip2":
        return bz2.BZ2File(stream), BZIP2_LIMIT
    return stream, 1
