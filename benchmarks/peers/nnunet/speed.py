"""The same nnU-Net model on the same CT: nnU-Net 2.8.1 and this program in turns, one thread each.

``python benchmarks/peers/nnunet/speed.py --peer ENVIRONMENT/bin/python IMAGE``. Timed from the image's file to the
labels' file, the model loaded before; the peak is the whole process's. Weights are random, so nowhere is much
background that could be passed over. Printed: medians, and the medians of the turns' ratios (theirs over ours; memory:
ours over theirs).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from compare import HERE, commit, labels_of, lines_of, run_command


def main() -> None:
    """Make the model, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="a CT, .nii.gz")
    parser.add_argument("--peer", required=True, help="the python of nnU-Net's environment")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", nargs="*", default=["fp32", "auto"])
    parser.add_argument("--tta", action="store_true", help="with mirroring")
    parser.add_argument("--spacing", type=float, nargs=3, metavar="MM", help="resample the CT to this first (x, y, z)")
    options = parser.parse_args()
    flags = ["--tta"] if options.tta else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        image = _at_spacing(options.image, options.spacing, folder) if options.spacing else options.image
        environment["MEDUNISEG_HOME"] = str(folder / "home")
        (model,) = lines_of([options.peer, str(HERE / "models.py"), str(folder / "models"), "paper-3d"], environment)
        cli = [sys.executable, "-m", "training_cli", "models", "import", "nnunet", str(model["folder"])]
        run_command([*cli, "--name", "peer"], environment)
        sides = {"nnU-Net": [options.peer, str(HERE / "theirs.py"), str(model["folder"])]}
        sides |= {name: [sys.executable, str(HERE / "ours.py"), "peer"] for name in options.precision}
        found: dict[str, list[dict[str, object]]] = {name: [] for name in sides}
        for _ in range(options.turns):
            for name, command in sides.items():
                place = folder / name
                place.mkdir(exist_ok=True)
                line = [*command, str(place), str(image), *flags]
                found[name] += lines_of(line, {**environment, "PRECISION": name})
        capability = torch.backends.cpu.get_cpu_capability()
        size = "x".join(map(str, SimpleITK.ReadImage(str(image)).GetSize()))
        name = f"{options.image.name} {size} {flags}"
        print(f"{commit()}, torch {torch.__version__}, {capability}, {options.turns} turns, {name}")
        _report(found)
        theirs = labels_of(next((folder / "nnU-Net").glob("*.nii.gz")))
        for name in options.precision:
            own = labels_of(next((folder / name).glob("*.nii.gz")))
            either = (own > 0) | (theirs > 0)
            print(f"{name}: the same label in {np.mean((own == theirs)[either]):.4%} of {either.sum():,} voxels")


def _at_spacing(path: Path, spacing: Sequence[float], folder: Path) -> Path:
    """The CT on a grid of another spacing (mm), of the same extent: a hospital's pixels are finer than 3 mm."""
    image = SimpleITK.ReadImage(str(path))
    extent = [count * step for count, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    size = [round(whole / step) for whole, step in zip(extent, spacing, strict=True)]
    air = float(SimpleITK.GetArrayViewFromImage(image).min())
    finer = SimpleITK.Resample(
        image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), air
    )
    out = folder / path.name
    SimpleITK.WriteImage(finer, str(out))
    return out


def _report(found: dict[str, list[dict[str, object]]]) -> None:
    def values(name: str, key: str) -> list[float]:
        return [float(str(line[key])) for line in found[name]]

    print(f"{'':9}{'CPU s':>9}{'wall s':>9}{'peak GiB':>10}  ratios: CPU, wall, memory")
    for name, lines in found.items():
        medians = [statistics.median(values(name, key)) for key in ("cpu", "seconds", "peak")]
        text = f"{name:9}{medians[0]:>9.1f}{medians[1]:>9.1f}{medians[2] / 2**30:>10.2f}"
        if name != "nnU-Net":
            cpu, wall, memory = (
                statistics.median(a / b for a, b in zip(values("nnU-Net", key), values(name, key), strict=True))
                for key in ("cpu", "seconds", "peak")
            )
            text += f"  {cpu:.2f}x, {wall:.2f}x, {1 / memory:.2f}x ({lines[0]['dtype']})"
        print(text, flush=True)


if __name__ == "__main__":
    main()
