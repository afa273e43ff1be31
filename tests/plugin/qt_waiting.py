"""Waiting for what Qt and threads are doing."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtWidgets import QApplication


def wait_for(done: Callable[[], bool], seconds: float) -> None:
    """Let Qt work until something is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it takes too long"
        QApplication.processEvents()
        time.sleep(0.002)
