"""Processes that help this one: they end with it, also when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process end as soon as its parent has; an initializer for ``ProcessPoolExecutor``.

    Workers of a pool wait for work on a pipe whose other end each of them holds, too: without this, those of a killed
    process wait for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
