"""What this process may use of the machine: cores and main memory, by affinity and control groups.

Containers and clusters limit a process by control groups (Linux), of which neither torch nor the operating system's
figures of free memory know: https://docs.kernel.org/admin-guide/cgroup-v2.html, and v1 beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

_ROOT = Path("/")
_NO_LIMIT = 1 << 60  # version 1 says so by an enormous number


def usable_cores(root: Path = _ROOT) -> int:
    """The cores that this process may keep busy.

    Args:
        root: where the file system begins.

    Returns:
        At least 1; a share of a core counts as one.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(root)])))


def available_memory(root: Path = _ROOT) -> int:
    """The main memory that this process can still take.

    Args:
        root: where the file system begins.

    Returns:
        Bytes.
    """
    return max(0, min([int(psutil.virtual_memory().available), *(left for _, left in _memory(root))]))


def total_memory(root: Path = _ROOT) -> int:
    """The main memory of the machine, or what this process and those of its groups may have of it.

    Args:
        root: where the file system begins.

    Returns:
        Bytes.
    """
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Limits of cores, of every level."""
    for folder in _groups(root, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            yield int(quota) / int(period)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limits of memory and what is left below them in bytes, of every level.

    What the kernel keeps of files it gives back when asked.
    """
    for folder in _groups(root, "memory"):
        for limit_name, used_name, kept_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _text(folder / limit_name), _text(folder / used_name)
            if not (limit.isdigit() and used.isdigit()) or int(limit) > _NO_LIMIT:
                continue
            kept = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
            files = kept.get(kept_name, "0")
            yield int(limit), int(limit) - int(used) + (int(files) if files.isdigit() else 0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, from its own up to the whole machine's."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, place = rest.partition(":")
        if controller in names.split(","):
            tops = [mount / names, mount / controller]
        elif number == "0" and not names:
            tops = [mount, mount / "unified"]
        else:
            continue
        parts = [part for part in PurePosixPath(place).parts if part not in ("/", "..")]
        for top in dict.fromkeys(tops):
            yield from (top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
