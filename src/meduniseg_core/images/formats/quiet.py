"""Keeps the remarks of C libraries (libtiff and MetaIO in ITK) off the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

_QUIETED = Lock()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within it nothing is written to stderr: the error that follows says what is wrong.

    It holds for the whole process, so it must be short.

    Yields:
        Nothing.
    """
    with _QUIETED:
        try:
            kept = os.dup(2)
        except OSError:  # there is no stderr
            yield
            return
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
