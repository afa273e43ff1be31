"""What was read of a file a moment ago and is asked for again: voxels of its next frame, headers of a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Stamp = tuple[tuple[str, int, int, int], ...]
"""What tells that files are still the same: path, inode, size and time of the last change (ns)."""

_SETTLED_NS = 2_000_000_000  # a file changed later than this before a look may change once more within its time stamp


def stamp_of(paths: Sequence[Path]) -> Stamp | None:
    """What tells whether files have changed since.

    Args:
        paths: The files.

    Returns:
        The stamp; None where one was changed just now, so that another change might not be seen.
    """
    stats = [path.stat() for path in paths]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    if newest > time.time_ns() - _SETTLED_NS:
        return None
    return tuple((str(path), s.st_ino, s.st_size, s.st_mtime_ns) for path, s in zip(paths, stats, strict=True))


@dataclass
class _Last:
    """The voxels of one file."""

    stamp: Stamp | None = None
    voxels: np.ndarray = field(default_factory=lambda: np.zeros(0))


_last: ContextVar[_Last | None] = ContextVar("last_decoded", default=None)


@contextmanager
def decoding_once() -> Iterator[None]:
    """Within it the voxels of the file that was decoded last are kept, for the frames that are read of it next.

    Yields:
        Nothing.
    """
    token = _last.set(_Last())
    try:
        yield
    finally:
        _last.reset(token)


def decoded(path: Path, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """All voxels of a file; within :func:`decoding_once` those that are at hand, read-only.

    Args:
        path: The file, which holds nothing but this array.
        decode: Reads it.

    Returns:
        What ``decode`` returned, now or before.
    """
    last = _last.get()
    stamp = None if last is None else stamp_of([path])
    if last is None or stamp is None:
        return decode()
    if last.stamp != stamp:
        last.stamp, last.voxels = None, np.zeros(0)  # frees what is there before the next is read
        voxels = decode()
        voxels.flags.writeable = False
        last.stamp, last.voxels = stamp, voxels
    return last.voxels
