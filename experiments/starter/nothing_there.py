"""What a model finds where there is nothing to find: held-out pictures, or parts of them, without the target.

    export MEDUNISEG_SHARED=../shared
    python experiments/starter/nothing_there.py measure [MODEL]    # the shipped starter, or a model's name or file
    python experiments/starter/nothing_there.py table              # results/nothing_there.json -> nothing_there.md

Chest: images without infection, and images made of one lung that has none and its mirror image; of the lung's pixels,
which share is called infection. Other tasks: of every image the largest of a few crops that holds no target; which
share of the crop is called target. The file holds the shipped starter and the model that was asked for last; what it
holds already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import Geometry, Image, read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "nothing_there.json"
TABLE = HERE / "results" / "nothing_there.md"
SIZES = (0.8, 0.65, 0.5)
"""Of a crop, as shares of the image's sides; the first that has a place without the target is taken."""
EVERYWHERE = ("gland", "retinal_vessel", "teeth_panoramic", "abdomen")
"""Tasks whose pictures always hold the target, or whose crops are no pictures that a user would have."""
CHEST, INFECTION, LUNG = "chest", 2, 1


def crop_without(
    labels: npt.NDArray[np.integer], rng: np.random.Generator, sizes: tuple[float, ...] = SIZES
) -> tuple[slice, slice] | None:
    """A window without foreground.

    Args:
        labels: (H, W).
        rng: chooses among its places.
        sizes: of the window, as shares of the image's sides, the largest first.

    Returns:
        Rows and columns of the largest window; None if every one holds foreground.
    """
    sums = np.pad((labels > 0).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for size in sizes:
        h, w = (max(1, round(size * side)) for side in labels.shape)
        free = np.argwhere(sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w] == 0)
        if len(free):
            y, x = free[int(rng.integers(len(free)))]
            return slice(y, y + h), slice(x, x + w)
    return None


def lungs_without(labels: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[np.intp] | None]:
    """Ways to make a chest picture without infection.

    Args:
        labels: (H, W) of the chest task.

    Yields:
        Columns of the new picture; None: the picture as it is.
    """
    sick = labels == INFECTION
    if not sick.any():
        yield None
        return
    columns = np.flatnonzero((labels > 0).any(axis=0))
    middle = int(columns[0] + columns[-1] + 1) // 2
    left, right = np.arange(middle), np.arange(middle, labels.shape[1])
    for half, picture in ((left, np.concatenate([left, left[::-1]])), (right, np.concatenate([right[::-1], right]))):
        if not sick[:, half].any():
            yield picture


def picture_of(image: Image, where: tuple[Any, ...]) -> Image:
    """A part of a picture as a picture of its own; it keeps what the file said but for its size."""
    array = np.ascontiguousarray(image.array[(slice(None), slice(None), *where)])
    depth, height, width = array.shape[1:]
    return replace(image, array=array, geometry=Geometry((depth, height, width), image.geometry.spacing))


def measure(name: str) -> dict[str, Any]:
    """Figures of one model: by task, a row for each picture."""
    predictor = Predictor(load_model(name), device="cpu", precision="fp32")
    known = [plan.task for plan in predictor.model.info.tasks]
    tasks: dict[str, list[dict[str, Any]]] = {}
    for folder in TrainingConfig.from_toml(HERE / "sixteen.toml").datasets:
        dataset = RawDataset.open(folder)
        if dataset.dimension != 2 or dataset.task not in known or dataset.task in EVERYWHERE:
            continue
        rng = np.random.default_rng(0)
        rows = tasks.setdefault(dataset.task, [])
        for case in dataset.cases("Ts"):
            image, labels = read_image(case.images), read_labels(case.label).array[0, 0]
            if dataset.task == CHEST:
                places = [(slice(None), slice(None) if of is None else of) for of in lungs_without(labels)]
            else:
                window = crop_without(labels, rng)
                places = [] if window is None else [window]
            for where in places:
                picture, truth = picture_of(image, where), labels[where]
                found = predictor.segment(picture, [dataset.task])[dataset.task].labels.array[0, 0]
                row: dict[str, Any] = {"case": case.case}
                if dataset.task == CHEST:
                    row["share"] = float((found[truth == LUNG] == INFECTION).mean())
                    row["lung_dice"] = dice((found > 0).astype(np.uint8), (truth > 0).astype(np.uint8), 1)
                else:
                    row["share"] = float((found > 0).mean())
                rows.append(row)
    return {"model": predictor.model.info.name, "sha256": predictor.model.sha256, "tasks": tasks}


def table(models: list[dict[str, Any]]) -> str:
    """Markdown: for each model and task, how many pictures, the mean share called target, how many have any."""
    lines = [
        "| model | task | pictures | called target, mean | most | none at all | lungs, Dice |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model in models:
        for task, rows in model["tasks"].items():
            shares = np.array([row["share"] for row in rows])
            dices = [row["lung_dice"] for row in rows if "lung_dice" in row]
            lungs = f"{100 * np.mean(dices):.1f}" if dices else ""
            lines.append(
                f"| {model['model']} {model['sha256'][:8]} | {task} | {len(rows)} | {shares.mean():.1%} "
                f"| {shares.max():.1%} | {int((shares == 0).sum())} | {lungs} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("measure", "table"))
    parser.add_argument("model", nargs="?", default="starter")
    arguments = parser.parse_args()
    models = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    if arguments.step == "measure":
        wanted = {load_model(name).sha256: name for name in ("starter", arguments.model)}
        models = [model for model in models if model["sha256"] in wanted]
        known = {model["sha256"] for model in models}
        models += [measure(name) for sha256, name in wanted.items() if sha256 not in known]
        write_text(RESULTS, json.dumps(models, indent=1) + "\n")
    text = table(models)
    write_text(TABLE, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
