"""Reports of many data sets as the paper's two tables: a row for each set, and the means over 3D, 2D and all sets."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from meduniseg_core.catalog import DOWNSTREAM, TASKS, UPSTREAM, Task
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.metrics import weighted_dice
from meduniseg_core.evaluation.report import Report, Summary, summarise

_WEIGHTED = "pneumothorax"  # SIIM is judged by WDice (docs/spec.md section 9)

Stage = Literal["upstream", "downstream"]


class SetRow(BaseModel):
    """One data set: the score of each run (percent; None where a run has no report of it) and the paper's.

    The score is the mean Dice over the test cases, or SIIM's WDice. ``cases`` counts those of the first run that has
    the set, ``paper_cases`` the paper's.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    dataset: str
    dimension: Literal[2, 3]
    cases: int
    paper_cases: int
    scores: tuple[float | None, ...]
    paper: dict[str, float] = {}


class PaperTable(BaseModel):
    """One of the paper's tables, for several runs.

    ``means`` are over the data sets of each run, in percent; ``paper_means`` are the paper's, over all of ``sets``.
    """

    model_config = ConfigDict(frozen=True)

    stage: Stage
    sets: int
    rows: tuple[SetRow, ...]
    means: tuple[Summary, ...]
    paper_means: dict[str, float] = {}


def paper_tables(runs: Sequence[Mapping[str, Report]]) -> tuple[PaperTable, ...]:
    """Arrange reports as the paper's tables 3 (upstream) and 4 (downstream, all training data).

    Args:
        runs: The reports of each run, by task.

    Returns:
        The tables for which there is a report. Tasks that the paper does not have are left out.

    Raises:
        BadInputError: No report is of a task of the paper.
    """
    paper = _paper()
    tables = tuple(
        table
        for table in (_table("upstream", UPSTREAM, runs, paper), _table("downstream", DOWNSTREAM, runs, paper))
        if table.rows
    )
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


def _table(
    stage: Stage, tasks: Sequence[Task], runs: Sequence[Mapping[str, Report]], paper: Mapping[str, Any]
) -> PaperTable:
    rows = tuple(
        SetRow(
            task=task.name,
            dataset=task.dataset,
            dimension=task.dimension,
            cases=next(len(run[task.name].cases) for run in runs if task.name in run),
            paper_cases=task.test,
            scores=tuple(_score(run[task.name], task.name) if task.name in run else None for run in runs),
            paper={} if stage == "upstream" else {name: scores[task.name] for name, scores in paper[stage].items()},
        )
        for task in tasks
        if any(task.name in run for run in runs)
    )
    means = tuple(
        summarise((score, row.dimension) for row in rows if (score := row.scores[place]) is not None)
        for place in range(len(runs))
    )
    paper_means = paper[stage] if stage == "upstream" else {}
    return PaperTable(stage=stage, sets=len(tasks), rows=rows, means=means, paper_means=paper_means)


def _score(report: Report, task: str) -> float:
    if task != _WEIGHTED:
        return 100 * float(report.dice.mean or 0.0)
    lesion = [any(scores.reference_volume > 0 for scores in case.classes) for case in report.cases]
    return 100 * weighted_dice([case.dice for case in report.cases], lesion)


def _paper() -> Mapping[str, Any]:
    return tomllib.loads(files("meduniseg_core.evaluation").joinpath("paper_scores.toml").read_text("utf-8"))
