"""Width and resolution for the starter: two widths x two resolutions, a short budget each, chosen on validation images.

    export MEDUNISEG_SHARED=../shared OMP_NUM_THREADS=1
    python experiments/starter/scaling.py train      # four short trainings; those that are done are left alone
    python experiments/starter/scaling.py table      # results/scaling.json -> results/scaling.md

Six of the starter's tasks by its recipe, from random weights: five pictures, of which two are small or thin (disc and
cup, vessels), and one volume. Measured on what `sixteen.toml` holds back of the training images; nothing here looks at
imagesTs. A column of seconds says what a step costs on one core, because the starter's budget is hours, not steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tables import measured

from meduniseg_core.events import Event, Metric
from meduniseg_core.files import write_text
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.split import read_splits
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "scaling.json"
TABLE = HERE / "results" / "scaling.md"
TASKS = ("hippocampus", "disc_cup", "gland", "breast_lesion", "polyp", "retinal_vessel")
WIDTHS = {"16": (16, 16, 32, 96, 160, 160), "32": (32, 32, 64, 128, 160, 160)}
RESOLUTIONS = {"160": 160, "own": None}
"""Longer side of a picture in pixels; ``own``: the starter's (256; disc and cup 384, vessels 448)."""
EPOCHS, ITERATIONS = 2, 50
LOG = logging.getLogger("scaling")


def configuration(width: str, resolution: str) -> TrainingConfig:
    """The starter's recipe, short, of six tasks."""
    base = TrainingConfig.from_toml(HERE / "sixteen.toml")
    side = RESOLUTIONS[resolution]
    plans = {task: plan for task, plan in base.plan.items() if task in TASKS}
    plan_2d = base.plan_2d
    if side is not None:
        plans = {task: plan for task, plan in plans.items() if plan.longest_side is None}
        plan_2d = plan_2d.model_copy(update={"longest_side": side, "patch": (1, side, side)})
    name = f"scaling-{width}-{resolution}"
    return base.model_copy(
        update={
            "name": name,
            "datasets": tuple(folder for folder in base.datasets if RawDataset.open(folder).task in TASKS),
            "output": base.output.parent / "scaling" / name,
            "pretrained_weights": None,
            "network": base.network.model_copy(update={"features": WIDTHS[width]}),
            "plan": plans,
            "plan_2d": plan_2d,
            "absence": {task: own for task, own in base.absence.items() if task in TASKS and not own.others},
            "rate_warm_ups": (),
            "task_shares": {},
            "average_decay": None,
            "epochs": EPOCHS,
            "iterations_per_dataset": ITERATIONS,
            "validation_every": EPOCHS + 1,
            "device": "cpu",
            "threads": 1,
        }
    )


def run(width: str, resolution: str) -> dict[str, Any]:
    """Train one network, measure it on what it was not trained on."""
    config = configuration(width, resolution)
    result = train(config, resume=(config.output / LAST).is_file(), events=log_event)
    splits = read_splits(config.output / "split.json")
    model = load_model(result.model)
    predictor = Predictor(model, "cpu", "fp32")
    scores = {}
    for folder in config.datasets:
        dataset = RawDataset.open(folder)
        held = set(splits[dataset.task].validation)
        found = measured(predictor, dataset.task, [case for case in dataset.cases("Tr") if case.case in held])
        scores[dataset.task] = {case: [round(value, 4) for value in of] for case, of in found["dice"].items()}
    parameters = sum(weight.numel() for weight in model.network.parameters())
    return {
        "width": width,
        "resolution": resolution,
        "parameters": parameters,
        "iterations": config.total_iterations,
        "seconds": round(result.seconds, 1),
        "dice": scores,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: Dice in %, mean over classes, then validation images."""
    lines = [
        f"| width | longer side | parameters | s a step | {' | '.join(TASKS)} | mean |",
        "| --- " * (len(TASKS) + 5) + "|",
    ]
    for row in rows:
        means = [100 * float(np.mean([np.mean(of) for of in row["dice"][task].values()])) for task in TASKS]
        cells = " | ".join(f"{mean:.1f}" for mean in means)
        step = row["seconds"] / row["iterations"]
        lines.append(
            f"| {row['width']} | {row['resolution']} | {row['parameters'] / 1e6:.1f} M | {step:.2f} "
            f"| {cells} | {np.mean(means):.1f} |"
        )
    return "\n".join(lines)


def log_event(event: Event) -> None:
    """The loss to the log."""
    if isinstance(event, Metric) and event.name == "loss":
        LOG.info("%s %s = %.4f at iteration %d", event.task or "all", event.name, event.value, event.step)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "table"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    rows = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    if arguments.step == "train":
        done = {(row["width"], row["resolution"]) for row in rows}
        for width, resolution in ((w, r) for w in WIDTHS for r in RESOLUTIONS):
            if (width, resolution) in done:
                continue
            rows.append(run(width, resolution))
            write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
            LOG.info("width %s, longer side %s: done", width, resolution)
    write_text(TABLE, table(rows) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
