"""``segment --scheduler`` with two workers, one of which is killed at a random moment.

    python benchmarks/archive_workers.py [--cases 200] [--rounds 5] [--seed 0]

In the end every case is there once, `runs verify` says complete, and the label files are those of a plain run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from batch_kills import make_images
from kills import save_base

from meduniseg_core.archive import read_manifest, verify_manifest
from meduniseg_core.files import sha256_of

PORT = 18787


def main() -> None:
    """Kill a worker, look, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDUNISEG_HOME"] = folder
        home, model = Path(folder), Path(folder) / "base.safetensors"
        save_base(home)
        images = make_images(home / "images", arguments.cases, seed=0)
        segment = [sys.executable, "-m", "training_cli", "segment", str(images), "--model", str(model)]
        segment += ["--device", "cpu", "--precision", "fp32", "--progress", "none"]
        subprocess.run([*segment, "-o", str(home / "calm")], stdout=subprocess.DEVNULL, check=True)
        wanted = {path.name: sha256_of(path) for path in sorted((home / "calm").glob("*.nii.gz"))}
        at = []
        for number in range(arguments.rounds):
            address = f"tcp://127.0.0.1:{PORT + number}"
            scheduler = _dask(home, "scheduler", "--host", "127.0.0.1", "--port", str(PORT + number), "--no-show")
            workers = [_dask(home, "worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
            out, manifest = home / f"out{number}", home / f"run{number}.jsonl"
            run = subprocess.Popen(
                [*segment, "-o", str(out), "--manifest", str(manifest), "--scheduler", address],
                stdout=subprocess.DEVNULL,
            )
            after = int(rng.integers(1, arguments.cases))
            while run.poll() is None and _lines(manifest) < after:
                time.sleep(0.02)
            time.sleep(float(rng.uniform(0.0, 0.5)))
            workers[0].kill()
            at.append(_lines(manifest))
            assert run.wait(timeout=3600) == 0
            report = verify_manifest(manifest)
            cases = [line.case for line in read_manifest(manifest).records]
            assert report.complete and len(cases) == len(set(cases)) == arguments.cases, report.sentences()
            assert {path.name: sha256_of(path) for path in sorted(out.glob("*.nii.gz"))} == wanted
            for process in (workers[1], scheduler):
                process.terminate()
                process.wait(timeout=60)
    print(
        f"two workers, one killed in each of {arguments.rounds} rounds (when {', '.join(map(str, at))} of "
        f"{arguments.cases} cases were done): every case once, verify says complete, all label files as a plain run's"
    )


def _dask(home: Path, what: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, "--no-dashboard"]
    command += ["--local-directory", str(home)] if what == "worker" else []
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home)


def _lines(manifest: Path) -> int:
    return len(manifest.read_bytes().splitlines()) - 1 if manifest.exists() else 0


if __name__ == "__main__":
    main()
