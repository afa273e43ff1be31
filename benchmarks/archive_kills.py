"""kill -9 of ``meduniseg segment --manifest`` at random moments: `kills.py` runs this.

After each kill the same command goes on. In the end every case has one line, ``runs verify`` says complete, and the
label files are, byte for byte, those of a run that nobody disturbed. So it is after a disk that was full in mid-run.
"""

from __future__ import annotations

import json
import os
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
CALM = "archive-calm"  # the folder of the run that is left alone


def kill_archive(home: Path, model: Path, kills: int, rng: np.random.Generator) -> str:
    """Runs with a manifest, killed ``kills`` times in all, every fifth time finished and a new one begun."""
    images, calm = make_images(home / "archive", CASES, seed=0), home / CALM
    process = _run(model, images, calm, home / "calm.jsonl")
    _until_begun(process, home / "calm.jsonl")
    begun = time.perf_counter()
    assert process.wait() == 0
    lasts = time.perf_counter() - begun
    wanted = _labels_in(calm)
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
            _check_complete(manifest, out, wanted)
            lines += CASES
    return (
        f"run with a manifest killed {kills} times: {lines} lines, each case once; {redone} results had been written "
        "without their line and were made again; verify says complete, and all label files are those of the run that "
        "was left alone, byte for byte"
    )


def fill_disk(home: Path, model: Path) -> str:
    """A run, after :func:`kill_archive`, on a disk of half the size of its results; then the disk grows."""
    if os.geteuid() != 0:
        return "full disk: not tried, because only root may mount a small one"
    disk, calm = home / "disk", home / CALM
    disk.mkdir()
    page = os.sysconf("SC_PAGE_SIZE")
    half = sum(-(-path.stat().st_size // page) * page for path in calm.iterdir()) // 2
    out, manifest = disk / "out", disk / "run.jsonl"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={half}", "tmpfs", str(disk)], check=True)
    try:
        process = _run(model, home / "archive", out, manifest, stderr=subprocess.PIPE)
        _, told = process.communicate()
        said = told.decode().strip().splitlines()  # of the case, then of the run
        assert process.returncode == 3 and len(said) == 2 and "no space left" in said[0].lower(), told
        report = verify_manifest(manifest)
        written = sum(record.status == "done" for record in read_manifest(manifest).records)
        assert not report.complete and 0 < written < CASES, json.dumps(report.as_json())
        subprocess.run(["mount", "-o", f"remount,size={8 * half}", str(disk)], check=True)
        assert _run(model, home / "archive", out, manifest).wait() == 0, "the same command was refused"
        _check_complete(manifest, out, _labels_in(calm))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return (
        f"disk full after {written} of {CASES} cases, said in one sentence, and the run ended; with more room the same "
        "command goes on: verify says complete, each case once, and all label files are those of the run that was left "
        "alone, byte for byte"
    )


def _labels_in(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.nii.gz"))}


def _check_complete(manifest: Path, out: Path, wanted: dict[str, str]) -> None:
    """Each case once, verified, with the wanted label files, and nothing hidden beside them."""
    report = verify_manifest(manifest, inputs=True)
    assert report.complete, json.dumps(report.as_json())
    cases = [record.case for record in read_manifest(manifest).records if record.status == "done"]
    assert sorted(cases) == sorted(set(cases)) and len(cases) == CASES, "a case is there twice"
    assert _labels_in(out) == wanted
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "something hidden was left"


def _until_begun(process: subprocess.Popen[bytes], manifest: Path, lines: int = 1) -> None:
    """Wait until a run has written that many lines, or has ended."""
    while process.poll() is None and (not manifest.exists() or len(manifest.read_bytes().splitlines()) < lines):
        time.sleep(0.002)


def _run(
    model: Path, images: Path, out: Path, manifest: Path, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training_cli", "segment", str(images), "-o", str(out), "--model", str(model)]
    command += ["--device", "cpu", "--precision", "fp32", "--progress", "none", "--manifest", str(manifest)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
