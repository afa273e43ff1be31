"""Run a function in a process of its own and measure its wall time and its peak memory (Linux, macOS)."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

_MARK = "RESULT "


class Peak:
    """The most resident memory within a ``with`` block, above what there was when it was entered (MiB)."""

    def __init__(self, interval: float = 0.005) -> None:
        self._process = psutil.Process()
        self._interval = interval
        self._stop = threading.Event()
        self.mib = 0.0

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.mib = max(self.mib, (self._process.memory_info().rss - self._before) / 2**20)
            time.sleep(self._interval)

    def __enter__(self) -> Peak:
        self._before = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def in_own_process(script: str, arguments: list[str]) -> dict[str, float]:
    """What ``script`` reported with :func:`report`, run with ``arguments``; its other output goes to stderr."""
    command = [sys.executable, script, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    lines = [line for line in process.stdout.splitlines() if line.startswith(_MARK)]
    result: dict[str, float] = json.loads(lines[-1].removeprefix(_MARK))
    return result


def report(**figures: float) -> None:
    """Tell the parent process; the process's own peak (MiB) is added."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    figures.setdefault("process_peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
    print(_MARK + json.dumps(figures))
