"""Figures of the starter and of the single-task networks on images that neither training nor any choice has seen."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mean_shape import MeanShape

from meduniseg_core.catalog import task_title
from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.preprocessing.dataset import RawCase
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FIGURES = RESULTS / "dice.json"
CARD = HERE.parent.parent / "docs" / "model_card.md"
MARKS = ("<!-- table:begin (python experiments/starter/run.py table) -->", "<!-- table:end -->")
LOG = logging.getLogger("starter")


def evaluate(parts: Sequence[Path], singles: list[TrainingConfig], iterations: Mapping[str, int]) -> None:
    """Segment every held-out image with all networks (fp32, CPU, no mirroring); write results/dice.json.

    What a network was measured on stays in the file under its sha256 and is not measured again, also where its weights
    are gone; after a change of the parts' configurations, which are the single-task networks' too, it is forgotten.

    Args:
        parts: the configurations of the shipped model's training; the last one's network is the model.
        singles: of the single-task networks; those that are not finished are left out.
        iterations: by task, how many the shipped model has seen.
    """
    finished = [single for single in singles if model_path(single).is_file()]
    trained = [TrainingConfig.from_toml(part) for part in parts]
    universal = trained[-1]
    starter = Predictor(load_model(universal.name), device="cpu", precision="fp32")  # as users get it: fp16 weights
    before = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    known: dict[str, dict[str, Any]] = before.get("networks", {})
    configs = [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts]
    same = before.get("config_sha256") == configs
    singles_before = {row["task"]: row["singles"] for row in before.get("tasks", ())} if same else {}
    rows, networks = [], {}
    for folder in universal.datasets:
        dataset = RawDataset.open(folder)
        task = dataset.task
        shape = MeanShape.of(dataset)
        held_out = dataset.cases("Ts")
        row = {
            "task": task,
            "dataset": dataset.name,
            "modality": dataset.modality,
            "dimension": dataset.dimension,
            "classes": list(starter.model.info.plan_of(task).classes),
            "train_cases": sum(case.label is not None for case in dataset.cases("Tr")),
            "trivial": {case.case: _trivial(shape, case) for case in held_out},
            "starter": f"{starter.model.sha256}:{task}",
            "singles": dict(singles_before.get(task, {})),
        }
        for single in [None, *(single for single in finished if single.datasets == (folder,))]:
            predictor = starter
            if single is not None:
                predictor = Predictor(load_model(model_path(single)), device="cpu", precision="fp32")
            key = f"{predictor.model.sha256}:{task}"
            if single is not None:
                row["singles"][str(single.seed)] = key
            networks[key] = known.get(key) or measured(predictor, task, held_out)
        rows.append(row)
        LOG.info("%s: starter %.3f", task, _cases(networks[row["starter"]]["dice"]).mean())
        content = {
            "starter_sha256": starter.model.sha256,
            "config_sha256": configs,
            "iterations": dict(iterations),
            "tasks": rows,
            "networks": {**networks, **{k: v for k, v in known.items() if k not in networks}},
        }
        write_text(FIGURES, json.dumps(content, indent=1) + "\n")  # after every task: nothing is measured twice
    before_it = {f"part-{number}": config for number, config in enumerate(trained[:-1], 1)}
    _keep_logs({**before_it, **{one.name: one for one in (universal, *finished)}})


def measured(predictor: Predictor, task: str, cases: Sequence[RawCase]) -> dict[str, Any]:
    """Dice of every class of every case, and seconds."""
    found: dict[str, Any] = {"dice": {}, "seconds": {}}
    for case in cases:
        image, reference = read_image(case.images), read_labels(case.label)
        start = time.perf_counter()
        labels = predictor.segment(image, [task])[task].labels.array[0]
        found["seconds"][case.case] = round(time.perf_counter() - start, 2)
        classes = len(predictor.model.info.plan_of(task).classes)
        found["dice"][case.case] = [dice(labels, reference.array[0], label) for label in range(1, classes + 1)]
    return found


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
    """Markdown: rows per task, class and seed. Dice in %, mean over classes, then cases (docs/spec.md section 9)."""
    rows = [_Row.of(row, figures["networks"]) for row in figures["tasks"]]
    lines = [
        "| task | modality | dim | train / test | starter (95 % CI) | single-task | mean shape | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        single, difference = "", ""
        if row.singles:
            paired = _cases(row.starter) - np.mean([_cases(of) for of in row.singles.values()], axis=0)
            single = f"{100 * _single(row):.1f}"
            difference = f"{100 * paired.mean():+.1f} ({_interval(paired, '+.1f')})"
        lines.append(
            f"| {_titled(row)} | {row.modality} | {row.dimension}D | {row.train_cases} / {len(row.trivial)} "
            f"| {100 * _cases(row.starter).mean():.1f} ({_interval(_cases(row.starter), '.1f')}) | {single} "
            f"| {100 * _cases(row.trivial).mean():.1f} | {difference} |"
        )
    for title, dimensions in (("3D mean", {3}), ("2D mean", {2}), ("mean", {2, 3})):
        chosen = [row for row in rows if row.dimension in dimensions]
        starter = 100 * float(np.mean([_cases(row.starter).mean() for row in chosen]))
        trivial = 100 * float(np.mean([_cases(row.trivial).mean() for row in chosen]))
        single, difference = "", ""
        if all(row.singles for row in chosen):
            mean = 100 * float(np.mean([_single(row) for row in chosen]))
            single, difference = f"**{mean:.1f}**", f"{starter - mean:+.1f}"
        lines.append(f"| **{title}** | | | | **{starter:.1f}** | {single} | {trivial:.1f} | {difference} |")
    lines += ["", "| task | class | starter | single-task | mean shape |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        for index, name in enumerate(row.classes):
            values = [row.starter, *([next(iter(row.singles.values()))] if row.singles else []), row.trivial]
            texts = [f"{100 * float(np.mean([case[index] for case in table.values()])):.1f}" for table in values]
            if not row.singles:
                texts.insert(1, "")
            lines.append(f"| {row.task} | {name} | {' | '.join(texts)} |")
    several = [row for row in rows if len(row.singles) > 1]
    if several:
        lines += ["", "| task | single-task, each seed | spread (standard deviation) |", "| --- | --- | --- |"]
    for row in several:
        means = [100 * float(_cases(table).mean()) for _, table in sorted(row.singles.items())]
        lines.append(f"| {row.task} | {', '.join(f'{mean:.1f}' for mean in means)} | {np.std(means, ddof=1):.1f} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Row:
    """One task: Dice by case, a number for each class; of the starter, single-task networks (by seed), no network."""

    task: str
    modality: str
    dimension: int
    train_cases: int
    classes: list[str]
    starter: dict[str, list[float]]
    singles: dict[str, dict[str, list[float]]]
    trivial: dict[str, list[float]]

    @classmethod
    def of(cls, row: dict[str, Any], networks: dict[str, Any]) -> _Row:
        return cls(
            **{key: row[key] for key in ("task", "modality", "dimension", "train_cases", "classes", "trivial")},
            starter=networks[row["starter"]]["dice"],
            singles={seed: networks[key]["dice"] for seed, key in row["singles"].items()},
        )


def _titled(row: _Row) -> str:
    """The task's name, and what people call it where that is another."""
    title = task_title(row.task, row.modality, row.classes)
    return row.task if title.lower() == row.task else f"{row.task}: {title}"


def _trivial(shape: MeanShape, case: RawCase) -> list[float]:
    reference = read_labels(case.label)
    labels = shape.predict(reference)
    return [dice(labels, reference.array[0], label) for label in range(1, len(shape.frequencies) + 1)]


def _cases(table: dict[str, list[float]]) -> np.ndarray:
    """Mean over classes of every case, 0 to 1."""
    return np.array([np.mean(values) for _, values in sorted(table.items())])


def _single(row: _Row) -> float:
    return float(np.mean([_cases(table).mean() for table in row.singles.values()]))


def _interval(values: np.ndarray, form: str) -> str:
    """Bootstrap over cases, seeded: the 95 % interval of the mean, in %."""
    means = np.random.default_rng(0).choice(values, size=(10_000, len(values))).mean(1)
    low, high = (100 * float(np.quantile(means, share)) for share in (0.025, 0.975))
    return f"{low:{form}} to {high:{form}}"


def _keep_logs(configs: Mapping[str, TrainingConfig]) -> None:
    for folder, config in configs.items():
        for name in ("log.jsonl", "split.json", "plans.json"):
            if (config.output / name).is_file():
                target = RESULTS / folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(config.output / name, target)
