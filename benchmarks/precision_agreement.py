"""How far ``--precision auto`` changes the labels of a trained model against fp32.

Segments held-out images of every task of the model in both (scikit-image's fundus photograph where the development
images are not here). Printed per task and in all: the share of voxels that are foreground in either and have the same
label in both.

    python benchmarks/precision_agreement.py [--model starter] [--cases 3] [--precision bf16]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.weights import load_model

WANTED = 0.995
SHARED = Path(os.environ.get("MEDUNISEG_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def images(tasks: set[str], count: int) -> Iterator[tuple[str, Image]]:
    """(task, image): the first held-out cases of each data set."""
    folders = sorted((SHARED / "data").glob("Dataset1*"))
    if not folders and "disc_cup" in tasks:
        from skimage.data import retina

        array = np.moveaxis(retina(), -1, 0)[:, None]
        geometry = Geometry((1, array.shape[2], array.shape[3]), (1.0, 1.0, 1.0))
        yield "disc_cup", Image(np.ascontiguousarray(array), geometry, False, meta={"colour": "rgb"})
    for folder in folders:
        dataset = RawDataset.open(folder)
        if dataset.task in tasks:
            for case in dataset.cases("Ts")[:count]:
                yield dataset.task, read_image(case.images)


def main() -> None:
    """Print the shares; the exit status tells whether the whole reaches 99.5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    exact, fast = Predictor(model, "cpu", "fp32"), Predictor(model, "cpu", arguments.precision)
    same: dict[str, int] = {}
    either: dict[str, int] = {}
    for task, image in images({plan.task for plan in model.info.tasks}, arguments.cases):
        one, two = (session.segment(image, task)[task].labels.array for session in (exact, fast))
        foreground = (one > 0) | (two > 0)
        either[task] = either.get(task, 0) + int(foreground.sum())
        same[task] = same.get(task, 0) + int((one == two)[foreground].sum())
    for task, count in either.items():
        print(f"{task:20} {100 * same[task] / max(1, count):7.3f} % of {count:,} foreground voxels")
    share = sum(same.values()) / max(1, sum(either.values()))
    print(f"all tasks, {fast.dtype} against fp32: {100 * share:.3f} % (wanted: {100 * WANTED} %)")
    raise SystemExit(share < WANTED)


if __name__ == "__main__":
    main()
