"""What control groups leave of the machine, by made-up file systems."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from meduniseg_core.allowance import available_memory, total_memory, usable_cores

GIB = 1 << 30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(16)), raising=False)
    memory = type("Memory", (), {"available": 64 * GIB, "total": 96 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory())


def files(root: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_without_control_groups_the_machine_decides(tmp_path) -> None:
    assert usable_cores(tmp_path) == 16 and available_memory(tmp_path) == 64 * GIB
    assert total_memory(tmp_path) == 96 * GIB


def test_the_tightest_level_of_version_2_counts(tmp_path) -> None:
    top = "sys/fs/cgroup"
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job_7",
            f"{top}/slurm/job_7/cpu.max": "max 100000",
            f"{top}/slurm/cpu.max": "250000 100000",
            f"{top}/slurm/job_7/memory.max": str(8 * GIB),
            f"{top}/slurm/job_7/memory.current": str(7 * GIB),
            f"{top}/slurm/job_7/memory.stat": f"anon 5\ninactive_file {2 * GIB}",
            f"{top}/slurm/memory.max": "max",
            f"{top}/slurm/memory.current": str(50 * GIB),
        },
    )
    assert usable_cores(root) == 3 and available_memory(root) == 3 * GIB
    assert total_memory(root) == 8 * GIB


def test_version_1_has_a_place_for_each_controller(tmp_path) -> None:
    top = "sys/fs/cgroup"
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/box/a\n4:cpu,cpuacct:/box/a\n0::/",
            f"{top}/cpu,cpuacct/box/a/cpu.cfs_quota_us": "200000",
            f"{top}/cpu,cpuacct/box/a/cpu.cfs_period_us": "100000",
            f"{top}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            f"{top}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            f"{top}/memory/box/a/memory.limit_in_bytes": str(4 * GIB),
            f"{top}/memory/box/a/memory.usage_in_bytes": str(GIB),
            f"{top}/memory/memory.limit_in_bytes": str((1 << 63) - 4096),
            f"{top}/memory/memory.usage_in_bytes": str(GIB),
        },
    )
    assert usable_cores(root) == 2 and available_memory(root) == 3 * GIB
    assert total_memory(root) == 4 * GIB


def test_a_container_sees_its_limits_at_the_top_under_its_hosts_name(tmp_path) -> None:
    root = files(tmp_path, {"proc/self/cgroup": "0::/docker/3f2a/../..", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert usable_cores(root) == 1 and available_memory(root) == 64 * GIB


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path) -> None:
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": str(GIB),
            "sys/fs/cgroup/memory.current": str(GIB + 4096),
        },
    )
    assert available_memory(root) == 0
