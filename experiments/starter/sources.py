"""Leave one source out: how a recipe holds on images of a source that its training has not seen.

    export MEDUNISEG_SHARED=../shared
    python experiments/starter/sources.py train           # every arm and fold; --only ARM FOLD for one
    python experiments/starter/sources.py train --long    # at the starter's resolution, 1,000 iterations of each task
    python experiments/starter/sources.py first           # the first starter, which knows the first sources alone
    python experiments/starter/sources.py recipe          # from it by the starter's recipe, on the first sources alone
    python experiments/starter/sources.py table           # results/sources.json -> results/sources.md

Four tasks have two sources (polyp, gland, breast lesion, skin lesion). Fold ``new`` trains on the first source and is
evaluated on the second (files with "more" in their name), fold ``old`` the other way round. Only training images take
part: nothing here looks at imagesTs. Every arm is one small universal network of the four tasks, the same budget.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch

from meduniseg_core.evaluation import dice
from meduniseg_core.events import Event, Metric
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.absence import AbsenceSettings
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "sources.json"
TABLE = HERE / "results" / "sources.md"
TASKS = ("skin_lesion", "gland", "breast_lesion", "polyp")
FOLDS = ("new", "old")
ABSENCE = {name: AbsenceSettings(share=0.15) for name in ("skin_lesion", "breast_lesion", "polyp")}
ARMS: dict[str, dict[str, object]] = {
    "plain": {"presets": "none"},
    "presets": {},
    "presets+absence": {},
}
EPOCHS, ITERATIONS = 5, 50
LOG = logging.getLogger("sources")


def is_new(case: str) -> bool:
    """Whether a case comes from a task's second source."""
    return "more" in case


def configuration(arm: str, fold: str) -> TrainingConfig:
    """The universal recipe, short, of four tasks without one source."""
    base = TrainingConfig.from_toml(HERE / "sixteen.toml")
    datasets = [folder for folder in base.datasets if RawDataset.open(folder).task in TASKS]
    names = [case.case for folder in datasets for case in RawDataset.open(folder).cases("Tr")]
    left_out = tuple(sorted(name for name in names if is_new(name) == (fold == "new")))
    augmentation = AugmentationConfig.model_validate({**base.augmentation.model_dump(exclude_unset=True), **ARMS[arm]})
    return base.model_copy(
        update={
            "name": f"sources-{arm.replace('+', '-')}-{fold}",
            "datasets": tuple(datasets),
            "leave_out": left_out,
            "output": base.output.parent / "sources" / f"{arm}-{fold}",
            "plan": {},
            # from random weights: the first starter has seen both sources
            "pretrained_weights": None,
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "weight_decay": 3e-5,
            "rate_warm_ups": (),
            "task_shares": {},
            "plan_2d": base.plan_2d.model_copy(update={"longest_side": 160, "patch": (1, 160, 160), "batch": 4}),
            "augmentation": augmentation,
            "absence": ABSENCE if arm.endswith("+absence") else {},
            "average_decay": None,
            "epochs": EPOCHS,
            "iterations_per_dataset": ITERATIONS,
            "validation_every": EPOCHS + 1,
            "validation_fraction": 0.0,
            "device": "cpu",
            "threads": 1,
        }
    )


def at_the_starters_budget(arm: str, fold: str) -> TrainingConfig:
    """The same with the starter's resolution, batch and rate of averaging, and 1,000 iterations of each task."""
    base = TrainingConfig.from_toml(HERE / "sixteen.toml")
    config = configuration(arm, fold)
    name = f"{config.name}-long"
    return config.model_copy(
        update={
            "name": name,
            "output": base.output.parent / "sources" / f"{arm.replace('+', '-')}-{fold}-long",
            "plan_2d": base.plan_2d.model_copy(update={"batch": 4}),
            "average_decay": base.average_decay,
            "epochs": 20,
            "validation_every": 21,
        }
    )


def by_the_starters_recipe() -> TrainingConfig:
    """The four tasks from the first starter by the starter's recipe, 1,000 iterations each, without the new source."""
    base = TrainingConfig.from_toml(HERE / "sixteen.toml")
    config = configuration("plain", "new")
    kept = {task: own for task, own in base.absence.items() if task in TASKS}
    return base.model_copy(
        update={
            "name": "sources-recipe-new",
            "datasets": config.datasets,
            "leave_out": config.leave_out,
            "output": base.output.parent / "sources" / "recipe-new",
            "plan": {task: plan for task, plan in base.plan.items() if task in TASKS},
            # without pictures of other tasks, which are not there
            "absence": {
                task: own.model_copy(update={"methods": ("crop",), "others": ()}) for task, own in kept.items()
            },
            "task_shares": {},
            "epochs": 20,
            "validation_every": 21,
            "validation_fraction": 0.0,
            "threads": 1,
        }
    )


def scores(predictor: Predictor, fold: str) -> dict[str, dict[str, float]]:
    """Dice by task and case on the source that the fold leaves out."""
    found: dict[str, dict[str, float]] = {}
    for folder in TrainingConfig.from_toml(HERE / "sixteen.toml").datasets:
        dataset = RawDataset.open(folder)
        if dataset.task not in TASKS:
            continue
        found[dataset.task] = {}
        for case in dataset.cases("Tr"):
            if is_new(case.case) != (fold == "new"):
                continue
            labels = predictor.segment(read_image(case.images), dataset.task)[dataset.task].labels.array[0]
            found[dataset.task][case.case] = dice(labels, read_labels(case.label).array[0], 1)
    return found


def keep(name: str, fold: str, found: dict[str, dict[str, float]], sha256: str) -> None:
    """Add one arm's figures to results/sources.json."""
    rows = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    rows = [row for row in rows if (row["arm"], row["fold"]) != (name, fold)]
    rows.append({"arm": name, "fold": fold, "sha256": sha256, "dice": found})
    write_text(RESULTS, json.dumps(sorted(rows, key=lambda row: (row["fold"], row["arm"])), indent=1) + "\n")
    LOG.info("%s %s: %s", name, fold, {task: round(float(np.mean(list(of.values()))), 3) for task, of in found.items()})


def table() -> str:
    """Markdown: mean Dice in % by task; below 30: share of the images with a Dice below 0.3."""
    lines = ["| left out | arm | " + " | ".join(TASKS) + " | mean | below 30 |", "| --- " * (len(TASKS) + 4) + "|"]
    for row in json.loads(RESULTS.read_text("utf-8")):
        means = [100 * float(np.mean(list(row["dice"][task].values()))) for task in TASKS]
        every = np.array([value for task in TASKS for value in row["dice"][task].values()])
        cells = " | ".join(f"{value:.1f}" for value in means)
        lines.append(
            f"| {row['fold']} | {row['arm']} | {cells} | {np.mean(means):.1f} | {100 * (every < 0.3).mean():.0f} % |"
        )
    return "\n".join(lines)


def log_event(event: Event) -> None:
    """Losses to the log."""
    if isinstance(event, Metric):
        LOG.info("%s %s = %.4f at iteration %d", event.task or "all", event.name, event.value, event.step)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "first", "recipe", "table"))
    parser.add_argument("--only", nargs=2, metavar=("ARM", "FOLD"))
    parser.add_argument("--long", action="store_true", help="at the starter's resolution and budget")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(1)
    if arguments.step == "first":
        weights = TrainingConfig.from_toml(HERE / "sixteen.toml").pretrained_weights
        assert weights is not None
        first = load_model(weights)
        keep("first starter", "new", scores(Predictor(first, device="cpu", precision="fp32"), "new"), first.sha256)
    elif arguments.step == "recipe":
        config = by_the_starters_recipe()
        model = model_path(config)
        if not model.is_file():
            train(config, resume=(config.output / LAST).is_file(), events=log_event)
        loaded = load_model(model)
        keep(
            "the starter's recipe",
            "new",
            scores(Predictor(loaded, device="cpu", precision="fp32"), "new"),
            loaded.sha256,
        )
    elif arguments.step == "train":
        wanted = [tuple(arguments.only)] if arguments.only else [(arm, fold) for fold in FOLDS for arm in ARMS]
        for arm, fold in wanted:
            config = at_the_starters_budget(arm, fold) if arguments.long else configuration(arm, fold)
            model = model_path(config)
            if not model.is_file():
                train(config, resume=(config.output / LAST).is_file(), events=log_event)
            loaded = load_model(model)
            name = f"{arm}, long" if arguments.long else arm
            keep(name, fold, scores(Predictor(loaded, device="cpu", precision="fp32"), fold), loaded.sha256)
    else:
        write_text(TABLE, table() + "\n")
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
