"""Is the memory of ``meduniseg serve`` flat over many jobs, and is nothing left of them?

    python benchmarks/serve_soak.py [--jobs 300] [--edge 48]

Starts the server as its users do, sends it small volumes one after the other (every tenth job is cancelled, every
tenth is no image), and prints the memory of its process after each fifth of the jobs. Exit code 1 where memory after
the last fifth is more than 5 % above that after the second one, or a file is left.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import requests

from meduniseg_core.images import Geometry, Image, write_image

TOKEN = "the token of a benchmark"
SLACK = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--edge", type=int, default=48, help="voxels along each side of the volumes")
    parser.add_argument("--task", default="hippocampus")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MEDUNISEG_TOKEN": TOKEN, "TMPDIR": folder}
        command = [sys.executable, "-m", "training_cli", "serve", "--port", "0", "--device", "cpu"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            address = re.search(r"http://\S+", said)
            if address is None:
                print(said + process.stderr.read())
                return 1
            marks = _send_all(address.group(), process.pid, Path(folder), arguments)
            process.send_signal(signal.SIGTERM)
            ended = process.wait(120)
        left = [path for path in Path(folder).iterdir() if path.name.startswith("meduniseg-serve-")]
    growth = marks[-1] / marks[1]
    print(f"memory after each fifth (MB): {', '.join(f'{mark / 1e6:.0f}' for mark in marks)}; growth {growth:.3f}")
    print(f"the server ended with {ended}; folders left: {len(left)}")
    return 0 if growth <= SLACK and ended == 0 and not left else 1


def _send_all(address: str, pid: int, folder: Path, arguments: argparse.Namespace) -> list[int]:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    shape = (arguments.edge,) * 3
    values = np.random.default_rng(0).normal(100, 30, (1, *shape)).astype(np.int16)
    write_image(Image(values, Geometry(shape, (1.0, 1.0, 1.0))), folder / "mr.nii.gz")
    data = (folder / "mr.nii.gz").read_bytes()
    order = {"filename": "mr.nii.gz", "task": arguments.task}
    server, marks = psutil.Process(pid), []
    counts = {"done": 0, "cancelled": 0, "refused": 0}
    for number in range(1, arguments.jobs + 1):
        if number % 10 == 4:
            answer = session.post(f"{address}/segment", params=order, data=b"no image", timeout=600)
            counts["refused"] += answer.status_code == 400
        elif number % 10 == 7:
            job = session.post(f"{address}/jobs", params=order, data=data, timeout=600).json()["id"]
            counts["cancelled"] += session.delete(f"{address}/jobs/{job}", timeout=600).status_code == 204
        else:
            answer = session.post(f"{address}/segment", params=order, data=data, timeout=600)
            counts["done"] += answer.status_code == 200
        if number % max(1, arguments.jobs // 5) == 0 and len(marks) < 5:
            marks.append(server.memory_info().rss)
            print(f"{number} jobs ({counts}): {marks[-1] / 1e6:.0f} MB", flush=True)
    deadline = time.monotonic() + 60
    while session.get(f"{address}/health", timeout=60).json()["jobs"]["running"] and time.monotonic() < deadline:
        time.sleep(0.2)
    return marks


if __name__ == "__main__":
    sys.exit(main())
