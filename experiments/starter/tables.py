"""Figures of the starter and of the single-task networks on images that neither training nor any choice has seen."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mean_shape import MeanShape

from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FIGURES = RESULTS / "dice.json"
CARD = HERE.parent.parent / "docs" / "model_card.md"
MARKS = ("<!-- table:begin (python experiments/starter/run.py table) -->", "<!-- table:end -->")
LOG = logging.getLogger("starter")


def evaluate(universal: TrainingConfig, singles: list[TrainingConfig]) -> None:
    """Segment every held-out image with both networks (fp32, CPU, no mirroring); write results/dice.json."""
    torch.set_num_threads(max(1, torch.get_num_threads()))
    shipped = load_model(universal.name)  # as users get it: fp16 weights
    starter = Predictor(shipped, device="cpu", precision="fp32")
    rows = []
    for folder, single in zip(universal.datasets, singles, strict=True):
        dataset = RawDataset.open(folder)
        task = dataset.task
        alone = Predictor(load_model(_model_of(single)), device="cpu", precision="fp32")
        shape = MeanShape.of(dataset)
        cases = []
        for case in dataset.cases("Ts"):
            image, reference = read_image(case.images), read_labels(case.label)
            start = time.perf_counter()
            universal_labels = starter.segment(image, [task])[task].labels.array[0]
            seconds = time.perf_counter() - start
            predictions = {
                "starter": universal_labels,
                "single": alone.segment(image, [task])[task].labels.array[0],
                "trivial": shape.predict(reference),
            }
            cases.append(
                {
                    "case": case.case,
                    "seconds": round(seconds, 2),
                    **{
                        name: [dice(labels, reference.array[0], k + 1) for k in range(len(dataset.classes))]
                        for name, labels in predictions.items()
                    },
                }
            )
        rows.append(
            {
                "task": task,
                "dataset": dataset.name,
                "modality": dataset.modality,
                "dimension": dataset.dimension,
                "classes": list(shipped.info.plan_of(task).classes),
                "train_cases": sum(case.label is not None for case in dataset.cases("Tr")),
                "cases": cases,
            }
        )
        LOG.info("%s: %s", task, {name: round(_mean(rows[-1], name), 3) for name in ("starter", "single", "trivial")})
    content = {
        "starter_sha256": shipped.sha256,
        "config_sha256": hashlib.sha256((HERE / "universal.toml").read_bytes()).hexdigest(),
        "iterations_per_task": universal.epochs * universal.iterations_per_dataset,
        "tasks": rows,
    }
    write_text(FIGURES, json.dumps(content, indent=1) + "\n")
    _keep_logs(universal, singles)


def write() -> None:
    """Put the tables of results/dice.json between the marks of docs/model_card.md and print them."""
    text = tables(json.loads(FIGURES.read_text("utf-8")))
    card = CARD.read_text("utf-8")
    begin, end = (re.escape(mark) for mark in MARKS)
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", card, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{CARD} lacks the marks of the table; put them back.")
    write_text(CARD, replaced)
    print(text)


def tables(figures: dict[str, Any]) -> str:
    """Markdown: rows per task, then per class. Dice in %, mean over classes, then cases (docs/spec.md section 9)."""
    lines = [
        "| task | modality | dim | train / test | starter | single-task | mean shape | difference (95 % CI) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures["tasks"]:
        low, high = _interval(row)
        difference = 100 * (_mean(row, "starter") - _mean(row, "single"))
        lines.append(
            f"| {row['task']} | {row['modality']} | {row['dimension']}D | {row['train_cases']} / {len(row['cases'])} "
            f"| {_spread(row, 'starter')} | {_spread(row, 'single')} | {100 * _mean(row, 'trivial'):.1f} "
            f"| {difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) |"
        )
    for title, dimensions in (("3D mean", {3}), ("2D mean", {2}), ("mean", {2, 3})):
        chosen = [row for row in figures["tasks"] if row["dimension"] in dimensions]
        starter, single, trivial = (
            100 * float(np.mean([_mean(row, name) for row in chosen])) for name in ("starter", "single", "trivial")
        )
        lines.append(
            f"| **{title}** | | | | **{starter:.1f}** | **{single:.1f}** | {trivial:.1f} | {starter - single:+.1f} |"
        )
    lines += ["", "| task | class | starter | single-task | mean shape |", "| --- | --- | --- | --- | --- |"]
    for row in figures["tasks"]:
        for index, name in enumerate(row["classes"]):
            values = [
                f"{100 * float(np.mean([case[kind][index] for case in row['cases']])):.1f}"
                for kind in ("starter", "single", "trivial")
            ]
            lines.append(f"| {row['task']} | {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def _per_case(row: dict[str, Any], name: str) -> np.ndarray:
    return np.array([np.mean(case[name]) for case in row["cases"]])


def _mean(row: dict[str, Any], name: str) -> float:
    return float(_per_case(row, name).mean())


def _spread(row: dict[str, Any], name: str) -> str:
    values = 100 * _per_case(row, name)
    return f"{values.mean():.1f} ± {values.std():.1f}"


def _interval(row: dict[str, Any]) -> tuple[float, float]:
    """Bootstrap over cases of the paired difference, seeded."""
    differences = _per_case(row, "starter") - _per_case(row, "single")
    rng = np.random.default_rng(0)
    means = rng.choice(differences, size=(10_000, len(differences))).mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _model_of(config: TrainingConfig) -> Path:
    return config.output / f"{config.name}.safetensors"


def _keep_logs(universal: TrainingConfig, singles: list[TrainingConfig]) -> None:
    for config in (universal, *singles):
        for name in ("log.jsonl", "split.json", "plans.json"):
            target = RESULTS / config.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(config.output / name, target)
