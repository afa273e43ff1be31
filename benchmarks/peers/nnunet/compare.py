"""nnU-Net 2.8.1 against this program, file to label file.

``python benchmarks/peers/nnunet/compare.py --peer ENVIRONMENT/bin/python`` (README.md: the environment). Five small
models with random and with briefly trained weights; each predicts six images (three orientations, two anisotropic
spacings) with nnU-Net, with nnU-Net whose sums of windows are in single precision (it keeps them in half precision,
which decides near-ties), and with ``meduniseg segment --precision fp32``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
from typer.testing import CliRunner

from meduniseg_core.weights import Registry
from training_cli.main import app

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "tests" / "core" / "importers"))

from nnunet_samples import AXIAL, CORONAL, SAGITTAL, sample_image  # noqa: E402

HERE = Path(__file__).resolve().parent
RESULT = REPOSITORY / "benchmarks" / "results" / "nnunet_agreement.txt"
GRIDS = {"thick": ((18, 60, 52), (4.2, 0.9, 1.0)), "fine": ((44, 34, 48), (1.4, 1.9, 0.9))}
KINDS: dict[str, list[str]] = {"half": [], "single": ["--single"]}
COMMAND = ("python", "benchmarks/peers/nnunet/compare.py", "--peer", "ENVIRONMENT/bin/python")
ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL}


def main() -> None:
    """Make models and images, predict, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="the python of nnU-Net's environment")
    parser.add_argument("--models", nargs="*", help="of these only")
    parser.add_argument("--models-in", type=Path, help="a folder that keeps the models for the next time")
    parser.add_argument("--tta", action="store_true", help="with mirroring")
    options = parser.parse_args()
    header = f"{'model':22}{'weights':10}{'images':>7}{'foreground':>12}{'as released':>13}{'in single':>11}"
    lines = [header]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kept = str(options.models_in or folder / "models")
        models = lines_of([options.peer, str(HERE / "models.py"), kept, *(options.models or [])])
        flags = ["--tta"] if options.tta else []
        cases = [_images(folder / f"images-{at}", model) for at, model in enumerate(models)]
        jobs = []
        for at, (model, images) in enumerate(zip(models, cases, strict=True)):
            files = [",".join(map(str, case)) for case in images.values()]
            for kind, extra in KINDS.items():
                place = folder / f"{kind}-{at}"
                place.mkdir()
                jobs.append([str(model["folder"]), str(place), *files, *flags, *extra])
        (folder / "jobs.json").write_text(json.dumps(jobs))
        lines_of([options.peer, str(HERE / "theirs.py"), "--jobs", str(folder / "jobs.json")])
        print(header)
        os.environ["MEDUNISEG_HOME"] = str(folder / "home")
        for at, (model, images) in enumerate(zip(models, cases, strict=True)):
            lines.append(_row(model, images, folder, at, flags))
            print(lines[-1], flush=True)
    if not options.models:
        RESULT.write_text("\n".join([*lines, *_NOTE, f"Commit {commit()}: {' '.join(COMMAND)}"]) + "\n")


_NOTE = (
    "",
    "Share of foreground voxels (of either) with the same label, all images of a row together: against nnU-Net 2.8.1",
    "as it is, and with its sums of windows in single precision. File to label file, fp32, CPU.",
)


def _row(model: dict[str, object], images: dict[str, list[Path]], folder: Path, at: int, flags: list[str]) -> str:
    """Predict with this program, in this process, and compare with the peer's files."""
    _command("models", "import", "nnunet", str(model["folder"]), "--name", "peer", "--replace")
    task = Registry().load("peer").info.tasks[0].task
    files = [str(path) for case in images.values() for path in case]
    place = folder / f"ours-{at}"
    _command("segment", *files, "-o", str(place), "--task", task, "--model", "peer", "--precision", "fp32", *flags)
    same = {"half": 0, "single": 0}
    total = dict(same)
    for name in images:
        own = labels_of(place / f"{name}.nii.gz")
        for kind in same:
            theirs = labels_of(folder / f"{kind}-{at}" / f"{name}.nii.gz")
            foreground = (own > 0) | (theirs > 0)
            same[kind] += int((own == theirs)[foreground].sum())
            total[kind] += int(foreground.sum())
    shares = [same[kind] / total[kind] if total[kind] else 1.0 for kind in same]
    what = f"{model['name']!s:22}{model['weights']!s:10}{len(images):>7}{total['half']:>12,}"
    return f"{what}{shares[0]:>13.4%}{shares[1]:>11.4%}"


def _command(*words: str) -> None:
    """A command of this program."""
    result = CliRunner().invoke(app, list(words))
    if result.exit_code != 0:
        raise SystemExit(f"{' '.join(words)}\n{result.output[-4000:]}\n{result.exception!r}")


def commit() -> str:
    """The working tree's."""
    return run_command(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"], dict(os.environ)).strip()


def _images(folder: Path, model: dict[str, object]) -> dict[str, list[Path]]:
    channels, ct = int(str(model["channels"])), bool(model["ct"])
    folder.mkdir()
    cases: dict[str, list[Path]] = {}
    for grid, (shape, spacing) in GRIDS.items():
        for seed, (orientation, directions) in enumerate(ORIENTATIONS.items()):
            array = sample_image(shape, spacing, channels=channels, ct=ct, seed=seed)
            paths = []
            for channel, values in enumerate(array):
                image = SimpleITK.GetImageFromArray(values)
                image.SetSpacing(spacing[::-1])
                image.SetOrigin((3.0, -20.0, 40.0))
                image.SetDirection(np.array(directions).T.ravel().tolist())
                paths.append(folder / f"{grid}-{orientation}_{channel:04}.nii.gz")
                SimpleITK.WriteImage(image, str(paths[-1]))
            cases[f"{grid}-{orientation}"] = paths
    return cases


def labels_of(path: Path) -> np.ndarray:
    """The labels in a file."""
    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


def lines_of(command: list[str], environment: dict[str, str] | None = None) -> list[dict[str, object]]:
    """The JSON lines that a command of the peer prints among its own."""
    return [
        json.loads(line)
        for line in run_command(command, environment or dict(os.environ)).splitlines()
        if line.startswith("{")
    ]


def run_command(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; its failure ends this program."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
