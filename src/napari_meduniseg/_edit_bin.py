"""The bin for edits that were put aside. They stay for a week, even if the clock is sometimes wrong.

A clock that was reset (an empty battery: years back; then right again) would make a file a week old at once, or never.
So if a week has passed between two looks, the clock is not trusted at once: a file that seems to be too old stays one
more day, once, and the week of a file from the future starts again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DAY = 86400.0
_WEEK = 7 * _DAY
_LOOKED = ".looked"  # its time is that of the last look
_LAST_DAY = "last-"  # how the names of files begin that were given their other day


def put_in_bin(path: Path, folder: Path) -> None:
    """Move a file into the bin, where its week begins.

    Args:
        path: The file; if it does not exist, nothing happens.
        folder: The bin.
    """
    if not path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(path)
    path.replace(folder / f"{uuid.uuid4().hex[:8]}-{path.name}")


def kept(folder: Path, suffix: str) -> list[Path]:
    """List the files in the bin, after deleting those that have been there for more than a week.

    Args:
        folder: The bin.
        suffix: How the names of its files end.

    Returns:
        The files that stay.
    """
    if not folder.is_dir():
        return []
    now = time.time()
    believed = _since_last_look(folder, now)
    return [left for path in folder.glob(f"*{suffix}") for left in _left(path, now, believed)]


def _since_last_look(folder: Path, now: float) -> bool:
    """Whether the clock has moved plausibly since the last look: forward, by less than a week."""
    mark, believed = folder / _LOOKED, False
    with suppress(OSError):
        if mark.exists():
            believed = 0 <= now - mark.stat().st_mtime < _WEEK
        mark.touch()
        os.utime(mark, (now, now))
    return believed


def _left(path: Path, now: float, believed: bool) -> Iterator[Path]:
    """The file, where it stays; nothing where it cannot be looked at."""
    with suppress(OSError):
        age = now - path.stat().st_mtime
        if age < -_DAY:
            os.utime(path, (now, now))
        elif age > _WEEK and not believed and not path.name.startswith(_LAST_DAY):
            path = path.replace(path.with_name(f"{_LAST_DAY}{path.name}"))
            os.utime(path, (now - _WEEK + _DAY,) * 2)
        elif age > _WEEK:
            path.unlink()
            return
        yield path
