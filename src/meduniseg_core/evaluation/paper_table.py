"""Reports of many data sets as the paper's two tables: a row for each set, and the means over 3D, 2D and all sets.

Data sets that the paper does not have can be shown in the same layout, as a table of their own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.catalog import DOWNSTREAM, TASKS, UPSTREAM, Task
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.intervals import RESAMPLES, BootstrapInterval, percentile_interval
from meduniseg_core.evaluation.metrics import weighted_dice
from meduniseg_core.evaluation.report import Report, Summary, summarise

_WEIGHTED = "pneumothorax"  # SIIM is judged by WDice (docs/spec.md section 9)

Stage = Literal["upstream", "downstream", "others"]


class SetRow(BaseModel):
    """One data set: the score of each run (percent; None where a run has no report of it) and the paper's.

    The score is the mean Dice over the test cases, or SIIM's WDice. ``cases`` counts those of the first run that has
    the set, ``paper_cases`` the paper's (None for a set that it does not have). ``intervals`` are of the scores, by
    resampling the cases.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    dataset: str
    dimension: Literal[2, 3]
    cases: int
    paper_cases: int | None
    scores: tuple[float | None, ...]
    intervals: tuple[BootstrapInterval | None, ...]
    paper: dict[str, float] = {}


class PaperTable(BaseModel):
    """One of the paper's tables, or the same for other data sets, for several runs.

    ``means`` are over the data sets of each run, in percent; ``paper_means`` are the paper's, over all of ``sets``.
    ``intervals`` are of the means that a run has, by their names (mean, mean_2d, mean_3d), by resampling the cases of
    every set.
    """

    model_config = ConfigDict(frozen=True)

    stage: Stage
    sets: int
    rows: tuple[SetRow, ...]
    means: tuple[Summary, ...]
    intervals: tuple[dict[str, BootstrapInterval], ...]
    paper_means: dict[str, float] = {}


@dataclass(frozen=True)
class _Row:
    """What a table says of a data set beside its scores."""

    name: str
    dataset: str
    dimension: Literal[2, 3]
    test: int | None = None


def paper_tables(runs: Sequence[Mapping[str, Report]], *, others: bool = False) -> tuple[PaperTable, ...]:
    """Arrange reports as the paper's tables 3 (upstream) and 4 (downstream, all training data).

    Args:
        runs: The reports of each run, by task.
        others: Add a table of the tasks that the paper does not have, which are else left out.

    Returns:
        The tables for which there is a report.

    Raises:
        BadInputError: No report is of a task of the paper.
    """
    paper = _paper()
    stages: list[tuple[Stage, list[_Row]]] = [("upstream", _listed(UPSTREAM)), ("downstream", _listed(DOWNSTREAM))]
    if others:
        stages.append(("others", [_stranger(name, runs) for name in strangers(runs)]))
    tables = tuple(table for stage, tasks in stages if (table := _table(stage, tasks, runs, paper)).rows)
    if not tables:
        found = sorted({task for run in runs for task in run})
        raise BadInputError(
            f"No report is of a task of the paper (there are: {', '.join(found)}); 'meduniseg tasks --catalogue' lists "
            "them."
        )
    return tables


def strangers(runs: Sequence[Mapping[str, Report]]) -> list[str]:
    """List the tasks that the paper does not have.

    Args:
        runs: The reports of each run, by task.

    Returns:
        Their names, sorted.
    """
    return sorted({task for run in runs for task in run} - set(TASKS))


def _listed(tasks: Sequence[Task]) -> list[_Row]:
    return [_Row(task.name, task.dataset, task.dimension, task.test) for task in tasks]


def _stranger(name: str, runs: Sequence[Mapping[str, Report]]) -> _Row:
    dimensions = [case.dimension for run in runs if name in run for case in run[name].cases]
    return _Row(name, name, 3 if 2 * dimensions.count(3) >= len(dimensions) else 2)


def _table(
    stage: Stage, tasks: Sequence[_Row], runs: Sequence[Mapping[str, Report]], paper: Mapping[str, Any]
) -> PaperTable:
    draws = [{task.name: _draws(run[task.name], task.name) for task in tasks if task.name in run} for run in runs]
    rows = tuple(
        SetRow(
            task=task.name,
            dataset=task.dataset,
            dimension=task.dimension,
            cases=next(len(run[task.name].cases) for run in runs if task.name in run),
            paper_cases=task.test,
            scores=tuple(_score(run[task.name], task.name) if task.name in run else None for run in runs),
            intervals=tuple(percentile_interval(own[task.name]) if task.name in own else None for own in draws),
            paper={} if stage != "downstream" else {name: scores[task.name] for name, scores in paper[stage].items()},
        )
        for task in tasks
        if any(task.name in run for run in runs)
    )
    means = tuple(
        summarise((score, row.dimension) for row in rows if (score := row.scores[place]) is not None)
        for place in range(len(runs))
    )
    paper_means = paper[stage] if stage == "upstream" else {}
    groups = {"mean": (2, 3), "mean_2d": (2,), "mean_3d": (3,)}
    intervals = tuple(
        {
            name: percentile_interval(np.mean(chosen, axis=0))
            for name, dimensions in groups.items()
            if (chosen := [own[task.name] for task in tasks if task.name in own and task.dimension in dimensions])
        }
        for own in draws
    )
    return PaperTable(
        stage=stage, sets=len(tasks), rows=rows, means=means, intervals=intervals, paper_means=paper_means
    )


def _score(report: Report, task: str) -> float:
    dice, lesion = _cases(report)
    return 100 * (weighted_dice(dice, lesion) if task == _WEIGHTED else float(dice.mean()))


def _draws(report: Report, task: str) -> np.ndarray:
    """The score of resampled cases (seeded: the same report gives the same numbers)."""
    dice, lesion = _cases(report)
    chosen = np.random.default_rng(0).integers(dice.size, size=(RESAMPLES, dice.size))
    if task != _WEIGHTED:
        means: np.ndarray = dice[chosen].mean(axis=1)
        return 100 * means
    return 100 * np.array([weighted_dice(dice[own], lesion[own]) for own in chosen])


def _cases(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Dice of every case, and whether it holds the target."""
    lesion = [any(scores.reference_volume > 0 for scores in case.classes) for case in report.cases]
    return np.array([case.dice for case in report.cases]), np.array(lesion)


def _paper() -> Mapping[str, Any]:
    return tomllib.loads(files("meduniseg_core.evaluation").joinpath("paper_scores.toml").read_text("utf-8"))
