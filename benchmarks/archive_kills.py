"""kill -9 of ``meduniseg segment --manifest`` at random moments: `kills.py` runs this.

After each kill the same command goes on. In the end every case has one line, ``runs verify`` says complete, and the
label files are, byte for byte, those of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from batch_kills import make_images

from meduniseg_core.archive import read_manifest, verify_manifest
from meduniseg_core.files import sha256_of

CASES = 24
KILLS_A_RUN = 5


def kill_archive(home: Path, model: Path, kills: int, rng: np.random.Generator) -> str:
    """Runs with a manifest, killed ``kills`` times in all, every fifth time finished and a new one begun."""
    images = make_images(home / "archive", CASES, seed=0)
    calm = home / "archive-calm"
    process = _run(model, images, calm, home / "calm.jsonl")
    _until_begun(process, home / "calm.jsonl")
    begun = time.perf_counter()
    assert process.wait() == 0
    lasts = time.perf_counter() - begun
    wanted = {path.name: sha256_of(path) for path in sorted(calm.glob("*.nii.gz"))}
    redone = lines = 0
    for number in range(kills):
        first = number - number % KILLS_A_RUN
        out, manifest = home / f"archive{first}", home / f"run{first}.jsonl"
        process = _run(model, images, out, manifest)
        if number % KILLS_A_RUN == 0:
            _until_begun(process, manifest)
        else:  # the manifest is there from the start: wait for its next case
            _until_begun(process, manifest, lines=len(manifest.read_bytes().splitlines()) + 1)
        time.sleep(float(rng.uniform(0.0, 1.0)) * lasts / KILLS_A_RUN)
        process.kill()
        process.wait()
        known = {record.case for record in read_manifest(manifest).records} if manifest.exists() else set()
        written = {path.name.removesuffix(".nii.gz") for path in out.glob("*.nii.gz")} if out.exists() else set()
        assert known <= written, "a line tells of a result that is not there"
        redone += len(written - known)
        if number % KILLS_A_RUN == KILLS_A_RUN - 1 or number == kills - 1:
            assert _run(model, images, out, manifest).wait() == 0, "the same command was refused"
            report = verify_manifest(manifest, inputs=True)
            assert report.complete, json.dumps(report.as_json())
            cases = [record.case for record in read_manifest(manifest).records]
            assert sorted(cases) == sorted(set(cases)) and len(cases) == CASES, "a case is there twice"
            assert {path.name: sha256_of(path) for path in sorted(out.glob("*.nii.gz"))} == wanted
            assert not [path for path in out.iterdir() if path.name.startswith(".")], "something hidden was left"
            lines += len(cases)
    return (
        f"run with a manifest killed {kills} times: {lines} lines, each case once; {redone} results had been written "
        "without their line and were made again; verify says complete, and all label files are those of the run that "
        "was left alone, byte for byte"
    )


def _until_begun(process: subprocess.Popen[bytes], manifest: Path, lines: int = 1) -> None:
    """Wait until a run has written that many lines, or has ended."""
    while process.poll() is None and (not manifest.exists() or len(manifest.read_bytes().splitlines()) < lines):
        time.sleep(0.002)


def _run(model: Path, images: Path, out: Path, manifest: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training_cli", "segment", str(images), "-o", str(out), "--model", str(model)]
    command += ["--device", "cpu", "--precision", "fp32", "--progress", "none", "--manifest", str(manifest)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
