"""MedUniSeg* on the starter: tasks behind their single-task networks refined, all sixteen measured before and after.

    export MEDUNISEG_SHARED=../shared
    python experiments/refine/run.py choose    # tasks a point or more behind single-task networks (validation)
    python experiments/refine/run.py train     # a pack for each; --only TASK: one, so that two may run at a time
    python experiments/refine/run.py evaluate  # the shipped starter with and without the packs on imagesTs
    python experiments/refine/run.py table

``--resume`` goes on with interrupted trainings. The held-out images (imagesTs) are seen by ``evaluate`` only: the tasks
are chosen, and the recipe was, on the cases that the starter's training held back. ``results/`` has the figures,
``packs/`` the packs: `meduniseg models packs install` takes them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meduniseg_core.adaptation.refine import refine, refine_config
from meduniseg_core.evaluation import CaseScores, bootstrap_interval, evaluate_case
from meduniseg_core.events import Event, Message, Metric
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.split import read_splits
from meduniseg_core.weights import Model, load_model, read_pack

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results"
PACKS = HERE / "packs"
RUNS = ROOT / "runs" / "refine"
STARTER = ROOT / "experiments" / "starter"
STARTER_RESULTS = STARTER / "results"
SPLIT = STARTER_RESULTS / "starter" / "split.json"
TABLE = RESULTS / "table.md"
BEHIND = 0.01  # Dice
LOG = logging.getLogger("refine")

RECIPE: dict[str, object] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "select": "last",
    "validation_cases": 8,
    "precision": "bf16",
    "threads": 1,
}
"""Where it differs from the starter's own recipe (see `config_of`). AdamW, because iterations are few."""


def starter_config() -> TrainingConfig:
    """What the starter was trained with."""
    return TrainingConfig.from_toml(STARTER / "sixteen.toml")


def datasets() -> list[RawDataset]:
    """The starter's data sets."""
    return [RawDataset.open(folder) for folder in starter_config().datasets]


def choose() -> None:
    """The tasks that are behind their single-task networks by the validation with which the trainings ended.

    Both sides were measured on the same cases, and their logs are committed: the networks themselves need not be there.
    """
    splits = read_splits(SPLIT)
    ours = last_validation("starter")
    rows = []
    for task, dice in ours.items():
        alone = f"single-{task}"
        single = last_validation(alone)[task]
        if read_splits(STARTER_RESULTS / alone / "split.json")[task].validation != splits[task].validation:
            raise SystemExit(f"{alone} was validated on other cases than the starter; train it again.")
        rows.append({"task": task, "starter": dice, "single": single})
    rows.sort(key=lambda row: row["starter"] - row["single"])
    content = {
        "starter_sha256": load_model("starter").sha256,
        "chosen": [row["task"] for row in rows if row["single"] - row["starter"] >= BEHIND],
        "validation": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "choice.json", json.dumps(content, indent=1) + "\n")
    LOG.info("chosen: %s", ", ".join(content["chosen"]))


def last_validation(run: str) -> dict[str, float]:
    """Dice by task at the end of a training of which experiments/starter/results has the log.

    Args:
        run: its folder there.

    Returns:
        By task: mean over classes, then over validation cases.
    """
    log = STARTER_RESULTS / run / "log.jsonl"
    if not log.is_file():
        raise SystemExit(f"{log}: not there; train this network first (experiments/starter/run.py).")
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    if "dice" not in last:
        raise SystemExit(f"{log}: it does not end with a validation; let its training finish.")
    dice: dict[str, float] = last["dice"]
    return dice


def chosen() -> list[str]:
    """The tasks of results/choice.json. They must have been chosen for the starter of today."""
    content = json.loads((RESULTS / "choice.json").read_text("utf-8"))
    if content["starter_sha256"] != load_model("starter").sha256:
        raise SystemExit("results/choice.json was made with another starter; run the step 'choose' first.")
    tasks: list[str] = content["chosen"]
    return tasks


def config_of(task: str, base: Model, iterations: int) -> TrainingConfig:
    """The starter's data, split and augmentation; the rate falls to zero once."""
    original = starter_config()
    (folder,) = [dataset.folder for dataset in datasets() if dataset.task == task]
    overrides = {
        "cache": RUNS / "cache",
        "augmentation": original.augmentation,
        "batch_dice": original.batch_dice,
        "foreground_oversampling": original.foreground_oversampling,
        "validation_fraction": original.validation_fraction,
        **RECIPE,
    }
    return refine_config(
        [folder], base, f"starter-{task}", RUNS / task, iterations=iterations, seed=1, device="cpu", overrides=overrides
    )


def train(tasks: list[str], iterations: int, resume: bool) -> None:
    """One pack for each task; the split is the starter's, so that no case it was validated on is learned."""
    base = load_model("starter")
    for task in tasks:
        config = config_of(task, base, iterations)
        config.output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SPLIT, config.output / "split.json")
        going_on = resume and (config.output / LAST).is_file()
        result = refine(base, config, resume=going_on, events=log_event)
        LOG.info("%s: validation Dice %.3f, %.0f s", result.model.name, result.best_dice or 0.0, result.seconds)
        PACKS.mkdir(exist_ok=True)
        shutil.copyfile(config.output / pack_file(task), PACKS / pack_file(task))
        (RESULTS / task).mkdir(parents=True, exist_ok=True)
        for name in ("log.jsonl", "split.json", "plans.json"):
            shutil.copyfile(config.output / name, RESULTS / task / name)


def pack_file(task: str) -> str:
    """The name of a task's pack."""
    return f"starter-{task}.safetensors"


def evaluate(tasks: list[str]) -> None:
    """Every held-out image by the starter alone and with the packs (fp32, CPU); writes results/dice.json."""
    starter = load_model("starter")
    packs = {task: read_pack(PACKS / pack_file(task)) for task in tasks}
    before, after = Predictor(starter, "cpu", "fp32"), Predictor(starter, "cpu", "fp32", packs=packs)
    rows: list[dict[str, Any]] = []
    for dataset in datasets():
        cases = []
        for case in dataset.cases("Ts"):
            scores = {
                name: score(side, dataset.task, case, starter) for name, side in (("before", before), ("after", after))
            }
            cases.append({"case": case.case, **{name: [c.dice for c in own.classes] for name, own in scores.items()}})
        rows.append({"task": dataset.task, "classes": list(starter.info.plan_of(dataset.task).classes), "cases": cases})
        LOG.info("%s: %s", dataset.task, {name: round(mean(rows[-1], name), 3) for name in ("before", "after")})
    content = {
        "starter_sha256": starter.sha256,
        "packs": {
            task: {
                "sha256": pack.sha256,
                "bytes": pack.path.stat().st_size if pack.path else 0,
                "rank": pack.info.rank,
                "iterations": pack.info.provenance["epochs"] * pack.info.provenance["iterations_per_dataset"],
                "training_seconds": pack.info.provenance["training_seconds"],
            }
            for task, pack in packs.items()
        },
        "tasks": rows,
    }
    write_text(RESULTS / "dice.json", json.dumps(content, indent=1) + "\n")


def score(predictor: Predictor, task: str, case: RawCase, starter: Model) -> CaseScores:
    """Dice of one labelled case over the task's classes."""
    labels = predictor.segment(read_image(case.images), task)[task].labels
    assert case.label is not None
    names = dict(enumerate(starter.info.plan_of(task).classes, start=1))
    return evaluate_case(labels, read_labels(case.label), names, case=case.case, surface=False)


def mean(row: dict[str, Any], name: str) -> float:
    """Mean over classes, then over cases (docs/spec.md section 9)."""
    return float(np.mean([np.mean(case[name]) for case in row["cases"]]))


def table() -> str:
    """Markdown: all tasks, then the classes of the refined ones. Dice in %."""
    figures = json.loads((RESULTS / "dice.json").read_text("utf-8"))
    lines = [
        f"Held-out Dice in % (imagesTs) of starter {figures['starter_sha256'][:12]}, alone and with a pack for "
        f"{', '.join(figures['packs'])}. Made by "
        "`python experiments/refine/run.py choose`, `train`, `evaluate`, `table`.",
        "",
        "| task | images | before | after | gain (95 % CI) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in figures["tasks"]:
        gains = [float(np.mean(case["after"]) - np.mean(case["before"])) for case in row["cases"]]
        refined = row["task"] in figures["packs"]
        same = all(case["after"] == case["before"] for case in row["cases"])
        interval = bootstrap_interval(gains)
        gain = (
            f"{100 * np.mean(gains):+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
            if refined
            else ("0 (the same in every case)" if same else "NOT THE SAME")
        )
        name = f"**{row['task']}** (refined)" if refined else row["task"]
        before, after = (f"{100 * mean(row, side):.1f}" for side in ("before", "after"))
        lines.append(f"| {name} | {len(gains)} | {before} | {after} | {gain} |")
    before, after = (
        float(np.mean([100 * mean(row, side) for row in figures["tasks"]])) for side in ("before", "after")
    )
    lines += [f"| mean | | {before:.1f} | {after:.1f} | {after - before:+.1f} |", ""]
    lines += ["| refined task | class | before | after |", "| --- | --- | --- | --- |"]
    for row in figures["tasks"]:
        for index, name in enumerate(row["classes"] if row["task"] in figures["packs"] else ()):
            before, after = (
                100 * float(np.mean([case[side][index] for case in row["cases"]])) for side in ("before", "after")
            )
            lines.append(f"| {row['task']} | {name} | {before:.1f} | {after:.1f} |")
    packs = "; ".join(
        f"{task} {pack['bytes'] / 1e6:.1f} MB, {pack['iterations']} iterations, {pack['training_seconds'] / 60:.0f} min"
        for task, pack in figures["packs"].items()
    )
    return "\n".join([*lines, "", f"Packs (fp16, trained on one busy CPU core): {packs}.", ""])


def log_event(event: Event) -> None:
    """Metrics and messages to the log."""
    if isinstance(event, Metric):
        LOG.info("%s %s = %.4f at iteration %d", event.task or "all", event.name, event.value, event.step)
    elif isinstance(event, Message):
        LOG.info("%s: %s", event.level, event.text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("choose", "train", "evaluate", "table"))
    parser.add_argument("--iterations", type=int, default=1500, help="of each task")
    parser.add_argument("--only", metavar="TASK", help="train this one of the chosen tasks")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted trainings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if "MEDUNISEG_SHARED" not in os.environ:
        parser.error("set MEDUNISEG_SHARED to the folder that holds data/")
    torch.set_num_threads(1)
    if arguments.step == "choose":
        choose()
    elif arguments.step == "train":
        tasks = chosen()
        train([arguments.only] if arguments.only else tasks, arguments.iterations, arguments.resume)
    elif arguments.step == "evaluate":
        evaluate(chosen())
    else:
        text = table()
        write_text(TABLE, text)
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
