"""Processes that help this one: they end with it, also when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress

import psutil

_NICE = 5


def end_with_parent() -> None:
    """Let this process end as soon as its parent has; an initializer for ``ProcessPoolExecutor``.

    Workers of a pool wait for work on a pipe whose other end each of them holds, too: without this, those of a killed
    process wait for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def lower_own_priority() -> None:
    """Let the window that started this process, and other programs, go first.

    A priority that cannot be changed stays as it is.
    """
    with suppress(OSError, psutil.Error):
        psutil.Process().nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", _NICE))


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
