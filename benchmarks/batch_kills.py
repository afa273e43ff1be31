"""kill -9 of ``meduniseg segment``, and two of them on one output folder: `kills.py` runs this.

A visible label file always has its JSON, which lists its hash; the same command run again is never refused its own
leftovers; what it ends with is, byte for byte, what a run that nobody disturbed writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from meduniseg_core.files import sha256_of
from meduniseg_core.images import Geometry, Image, read_image, write_image

CASES = 24
SHAPE = (16, 32, 32)


def kill_batch(home: Path, model: Path, kills: int, rng: np.random.Generator) -> str:
    """A batch killed ``kills`` times, every tenth time in a new folder."""
    images = make_images(home / "images", CASES, seed=0)
    calm = home / "calm"
    assert _run(model, images, calm).wait() == 0
    wanted = {path.name: sha256_of(path) for path in sorted(calm.glob("*.nii.gz"))}
    out = home / "troubled0"
    orphans = leftovers = seen = 0
    for number in range(kills):
        if number % 10 == 0:
            out = home / f"troubled{number}"
        process = _run(model, images, out)
        assert process.stderr is not None
        for line in process.stderr:  # the first case is about to be written, or was
            if b'"segment"' in line or b'"casedone"' in line:
                break
        time.sleep(float(rng.uniform(0.0, 1.5)))
        process.kill()
        process.wait()
        process.stderr.close()
        labels, records, hidden = _look(out)
        seen += len(labels)
        orphans += len(records - labels)
        leftovers += hidden
        if number % 10 == 9 or number == kills - 1:
            done = _run(model, images, out, quiet=True)
            assert done.wait() == 0, "the same command was refused its own leftovers"
            assert {path.name: sha256_of(path) for path in sorted(out.glob("*.nii.gz"))} == wanted
            assert _look(out)[2] == 0, "something hidden was left"
    return (
        f"batch killed {kills} times: of {seen} labels that were seen after the kills each had its JSON with its hash; "
        f"{orphans} JSON without labels and {leftovers} hidden leftovers, all taken up by the next run, whose results "
        f"({len(wanted)} cases) are those of the run that was left alone, byte for byte"
    )


def two_programs(home: Path, model: Path, rounds: int) -> str:
    """Two batches on one folder at once: the same names, and names of their own."""
    first, second = make_images(home / "one", 6, seed=1), make_images(home / "two", 6, seed=2)
    which = {
        folder: {path.name[:7]: read_image(path).sha256 for path in folder.iterdir()} for folder in (first, second)
    }
    others = make_images(home / "three", 6, seed=3, name="other")
    refused = 0
    for number in range(rounds):
        out = home / f"together{number}"
        begun = []
        for images in (first, second):
            begun.append(_run(model, images, out, quiet=True, answer=home / f"{images.name}{number}.json"))
            if number % 2:  # the second begins once the first has written: the hardest moment
                while begun[0].poll() is None and not any(out.glob("*.nii.gz")):
                    time.sleep(0.01)
        codes = [process.wait() for process in begun]
        labels, records, hidden = _look(out)
        assert set(codes) <= {0, 3} and 3 in codes and len(labels) == 6 and labels == records and hidden == 0, codes
        told = {}
        for images in (first, second):
            answer = json.loads((home / f"{images.name}{number}.json").read_text("utf-8"))
            for result in answer["results"]:
                assert told.setdefault(result["case"], images) is images, "a result was replaced"
            refused += len(answer["failed"])
        for case in labels:
            record = json.loads((out / f"{case}.json").read_text("utf-8"))
            assert record["image_sha256"] == which[told[case]][case], "a result is not the one that was told"
        out = home / f"apart{number}"
        codes = [process.wait() for process in [_run(model, images, out, quiet=True) for images in (first, others)]]
        labels, records, hidden = _look(out)
        assert codes == [0, 0] and len(labels) == 12 and labels == records and hidden == 0, codes
    return (
        f"two programs on one output folder, {rounds} times: with the same names {refused} of {12 * rounds} cases were "
        f"refused, each by the one that came later, and no result was replaced; with names of their own all "
        f"{12 * rounds} results were there"
    )


def make_images(folder: Path, count: int, seed: int, name: str = "case") -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        array = rng.normal(size=(1, *SHAPE)).astype(np.float32)
        write_image(Image(array, Geometry(SHAPE, (2.0, 2.0, 2.0))), folder / f"{name}{number:03d}.nii.gz")
    return folder


def _run(
    model: Path, images: Path, out: Path, quiet: bool = False, answer: Path | None = None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training_cli", "segment", str(images), "-o", str(out), "--model", str(model)]
    command += ["--device", "cpu", "--precision", "fp32", "--progress", "none" if quiet else "json"]
    says = subprocess.DEVNULL if quiet else subprocess.PIPE
    if answer is None:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=says)
    with answer.open("wb") as stream:
        return subprocess.Popen([*command, "--json"], stdout=stream, stderr=says)


def _look(out: Path) -> tuple[set[str], set[str], int]:
    """Cases with labels, cases with a JSON, and how many hidden entries there are; every label is vouched for."""
    if not out.is_dir():
        return set(), set(), 0
    entries = list(out.iterdir())
    labels = {path.name.removesuffix(".nii.gz") for path in entries if path.name.endswith(".nii.gz")}
    records = {path.stem for path in entries if path.suffix == ".json"}
    hidden = {path.name for path in entries if path.name.startswith(".")}
    staged = [path for path in entries if path.name.startswith(".meduniseg-writing-")]
    for case in labels:
        record = json.loads((out / f"{case}.json").read_text("utf-8"))
        digest = record["files"][f"{case}.nii.gz"]
        waiting = any((folder / f"{case}.nii.gz").exists() for folder in staged)  # killed between JSON and labels
        assert waiting or sha256_of(out / f"{case}.nii.gz") == digest, case
    return labels, records, len(hidden)
