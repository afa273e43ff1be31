"""What the estimate of a result's quality costs: the shipped model as it is, and without its calibration, in turns.

    python benchmarks/quality_cost.py [--turns 7] IMAGE:TASK ...

Default: a picture, a CT slice and a head CT of ../shared (or MEDUNISEG_SHARED). Medians of the process's own time, from
the image in memory to labels with and without predicted Dice and traffic light, and of the turns' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from meduniseg_core.images import Image, read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import load_model

IMAGES = (
    ("Dataset109_Polyp", "polyp"),
    ("Dataset110_AbdomenCT", "abdomen"),
    ("Dataset102_HeadNeckCT", "head_neck_organs"),
)


def main() -> None:
    """Measure every image, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="*", help="a file and its task")
    parser.add_argument("--turns", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    chosen = [(Path(path), task) for path, _, task in (one.rpartition(":") for one in given.image)] or _examples()
    model = load_model("starter")
    bare = replace(model, info=model.info.model_copy(update={"calibration": None}))
    sides = {"without": Predictor(bare, "cpu"), "with": Predictor(model, "cpu")}
    print(f"torch {torch.__version__}, {sides['with'].dtype}, {given.turns} turns")
    for path, task in chosen:
        image = read_image(path)
        found = {name: _segment(predictor, image, task) for name, predictor in sides.items()}
        for warm in found.values():
            warm()
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(given.turns):
            for name, call in found.items():
                times[name].append(call())
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratio = statistics.median(b / a for a, b in zip(times["without"], times["with"], strict=True))
        line = f"{path.name} {task}: without {medians['without']:.3f} s, with {medians['with']:.3f} s"
        print(f"{line}, {100 * (ratio - 1):+.1f} %", flush=True)


def _segment(predictor: Predictor, image: Image, task: str) -> Callable[[], float]:
    def call() -> float:
        began = time.process_time()
        predictor.segment(image, task)
        return time.process_time() - began

    return call


def _examples() -> list[tuple[Path, str]]:
    data = Path(os.environ.get("MEDUNISEG_SHARED", "../shared")) / "data"
    return [(min((data / folder / "imagesTr").iterdir()), task) for folder, task in IMAGES]


if __name__ == "__main__":
    main()
