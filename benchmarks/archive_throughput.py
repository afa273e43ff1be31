"""How much faster a folder of real volumes is than the sum of single runs in one process, and the memory of both.

    python benchmarks/archive_throughput.py DATASET [--task T] [--model NAME] [--count 40] [--device D] [--precision P]

DATASET is a data set in nnU-Net's layout; its first COUNT training images are segmented. The sum of single runs reads,
segments and writes one after the other with one loaded model; the folder is one `meduniseg segment`. Each runs in a
process of its own, so that the peak of its memory (resident) is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from meduniseg_core.files import sha256_of


def main() -> None:
    """Measure both, alternating, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part", choices=("singly", "folder"), help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    task = arguments.task or json.loads((arguments.dataset / "dataset.json").read_text("utf-8"))["task"]
    if arguments.part:
        part = {"singly": _singly, "folder": _folder}[arguments.part]
        before = time.process_time()
        compute = {"device": arguments.device, "precision": arguments.precision}
        seconds = part(arguments.images, arguments.out, task, arguments.model, compute)
        used = time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak": peak, "cpu": used}))
        return
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for path in sorted((arguments.dataset / "imagesTr").iterdir())[: arguments.count]:
            shutil.copyfile(path, images / path.name)
        figures: dict[str, list[dict[str, float]]] = {"singly": [], "folder": []}
        hashes: dict[str, dict[str, str]] = {}
        for number in range(arguments.rounds):
            for part in figures:
                out = Path(folder) / f"{part}{number}"
                command = [sys.executable, __file__, str(arguments.dataset), "--task", task, "--part", part]
                command += ["--images", str(images), "--out", str(out), "--model", arguments.model]
                command += ["--device", arguments.device, "--precision", arguments.precision]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                figures[part].append(json.loads(done.stdout.splitlines()[-1]))
                hashes[part] = {path.name: sha256_of(path) for path in out.glob("*.nii.gz")}
        assert hashes["singly"] == hashes["folder"] and len(hashes["folder"]) > 1, "the label files differ"
    best = {part: min(found, key=lambda one: one["seconds"]) for part, found in figures.items()}
    peaks = {part: max(one["peak"] for one in found) for part, found in figures.items()}
    told = {
        part: f"{one['seconds']:.1f} s (CPU time {one['cpu']:.1f} s, peak {peaks[part]:.0f} MiB)"
        for part, one in best.items()
    }
    print(
        f"{len(hashes['folder'])} volumes of {arguments.dataset.name}, task {task}, {arguments.device} "
        f"({arguments.precision}): singly {told['singly']}, as a folder {told['folder']}: "
        f"{best['singly']['seconds'] / best['folder']['seconds']:.2f} times as fast; label files are equal"
    )


def _singly(images: Path, out: Path, task: str, model: str, compute: dict[str, str]) -> float:
    from meduniseg_core import load_model, read_image
    from meduniseg_core.images.cases import find_cases
    from meduniseg_core.inference import Predictor

    predictor = Predictor(load_model(model), **compute)
    total = 0.0
    for name, paths in find_cases(images).items():
        began = time.perf_counter()
        image = read_image(paths[0] if len(paths) == 1 else paths)
        predictor.segment(image, task)[task].save(out / f"{name}.nii.gz")
        total += time.perf_counter() - began
    return total


def _folder(images: Path, out: Path, task: str, model: str, compute: dict[str, str]) -> float:
    """The time from the first case's begin to the end, as the command tells it."""
    import contextlib
    import io

    from training_cli.main import main as meduniseg

    told = io.StringIO()
    command = ["segment", str(images), "-o", str(out), "--task", task, "--model", model]
    command += [word for name, value in compute.items() for word in (f"--{name}", value)]
    with contextlib.redirect_stdout(told):
        assert meduniseg([*command, "--json", "--progress", "none"]) == 0
    return float(json.loads(told.getvalue())["seconds"])


if __name__ == "__main__":
    main()
