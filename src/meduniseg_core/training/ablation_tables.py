"""The tables of an ablation: means and spread over seeds, and differences to the reference with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.evaluation import BootstrapInterval, Report, summarise
from meduniseg_core.evaluation.intervals import RESAMPLES, percentile_interval
from meduniseg_core.model.networks import count_parameters
from meduniseg_core.training.ablation import (
    Suite,
    SuiteRun,
    SuiteTable,
    check_training,
    suite_reports,
    suite_tasks,
    trainings,
)
from meduniseg_core.training.ablation_record import damaged_model_means
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import find_model

Reports = Mapping[int, Mapping[str, Report]]
"""The reports of one run, by seed and task."""


class Score(BaseModel):
    """A mean over seeds in percent, the standard deviation over them (None of one seed), and the number of seeds."""

    model_config = ConfigDict(frozen=True)

    mean: float
    spread: float | None
    seeds: int


class Column(BaseModel):
    """One run: its scores by task, and the means over 3D tasks, 2D tasks and all (by mean_3d, mean_2d, mean), where its
    networks are for all of these tasks.

    ``difference`` is that of ``mean`` to the reference run's, over the seeds that both have whole (its spread: of the
    seeds' differences), and ``interval`` its 95 % interval by resampling the cases. ``parameters`` of all its networks.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    title: str
    tasks: dict[str, Score]
    means: dict[str, Score]
    difference: Score | None
    interval: BootstrapInterval | None
    parameters: int | None


class AblationTable(BaseModel):
    """One table: its runs in order.

    ``tasks`` are those that one of them has, in the suite's order, ``seeds`` how many a run of the suite has at most,
    in this table or another.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    title: str
    rows: str
    seeds: int
    tasks: tuple[str, ...]
    columns: tuple[Column, ...]


def ablation_tables(suite: Suite) -> tuple[AblationTable, ...]:
    """Make the tables of what is done of a suite.

    Args:
        suite: the suite.

    Returns:
        Its tables; a run of which nothing is done yet has no scores.

    Raises:
        BadInputError: a report or a model cannot be read, or a run was done with other settings than the suite's.
    """
    for one in trainings(suite):
        check_training(suite, one)
    reports = suite_reports(suite)
    wanted = suite.tables or (SuiteTable(number=1, title=suite.name, runs=tuple(run.name for run in suite.runs)),)
    tasks = suite_tasks(suite)
    columns = {run.name: _column(suite, run.name, reports, tasks) for run in suite.runs}
    most = max((score.seeds for column in columns.values() for score in column.means.values()), default=0)
    return tuple(
        AblationTable(
            number=table.number,
            title=table.title,
            rows=table.rows,
            seeds=most,
            tasks=tuple(task for task in tasks if any(task in columns[name].tasks for name in table.runs)),
            columns=tuple(columns[name] for name in table.runs),
        )
        for table in wanted
    )


def suite_markdown(tables: Sequence[AblationTable], suite: Suite) -> str:
    """Write the tables as Markdown.

    Args:
        tables: of :func:`ablation_tables`.
        suite: the suite.

    Returns:
        The text.
    """
    lines = [f"# {suite.name}", "", suite.description, ""]
    for table in tables:
        lines += [f"## Table {table.number}: {table.title}", ""]
        head, *body = table_rows(table)
        lines += [_row(head), _row(["---"] * len(head)), *(_row(row) for row in body), ""]
    seeds = ", ".join(str(seed) for seed in suite.seeds)
    reference = suite.run(suite.reference)
    done = max((table.seeds for table in tables), default=0)
    if done < len(suite.seeds):
        lines += [f"**{done} of {len(suite.seeds)} seeds {'is' if done == 1 else 'are'} done.**", ""]
    lines += [
        f"Mean Dice in %, on the {suite.cases} cases, mean ± standard deviation over seeds ({seeds}; in brackets how "
        "many are done where others have more). Differences are to "
        f"{reference.title or reference.name}, on the same seeds and cases, ± standard deviation over the seeds, with "
        "the 95 % interval by resampling the cases: that says nothing of other seeds.",
        "",
    ]
    return "\n".join(lines)


def table_rows(table: AblationTable) -> list[list[str]]:
    """Lay a table out as the paper's: data sets down and methods across (table 3), or a row for each variant.

    Args:
        table: the table.

    Returns:
        The head, and the rows.
    """
    means = (("3D mean", "mean_3d"), ("2D mean", "mean_2d"), ("mean", "mean"))
    most = table.seeds
    if table.rows == "sets":
        head = ["data set", *(column.title for column in table.columns)]
        body = [[task, *(_text(column.tasks.get(task), most) for column in table.columns)] for task in table.tasks]
        body += [[name, *(_text(column.means.get(key), most) for column in table.columns)] for name, key in means]
        body.append(["difference", *(_difference(column) for column in table.columns)])
        return [head, *body]
    head = ["variant", "parameters", *(name for name, _ in means), "difference"]
    return [
        head,
        *(
            [
                column.title,
                "-" if column.parameters is None else f"{column.parameters:,}",
                *(_text(column.means.get(key), most) for _, key in means),
                _difference(column),
            ]
            for column in table.columns
        ),
    ]


def _row(cells: Sequence[str]) -> str:
    written = [" ".join(cell.split()).replace("|", r"\|") for cell in cells]  # titles are the user's
    return f"| {' | '.join(written)} |"


def _text(score: Score | None, most: int) -> str:
    if score is None:
        return "-"
    spread = "" if score.spread is None else f" ± {score.spread:.1f}"
    return f"{score.mean:.1f}{spread}" + ("" if score.seeds == most else f" ({score.seeds})")


def _difference(column: Column) -> str:
    if column.difference is None:
        return "-"
    interval = column.interval
    found = f"{column.difference.mean:+.1f}"
    if column.difference.spread is not None:
        found += f" ± {column.difference.spread:.1f}"
    return found + ("" if interval is None else f" [{interval.low:+.1f}, {interval.high:+.1f}]")


def _column(suite: Suite, name: str, reports: Mapping[str, Reports], tasks: Mapping[str, int]) -> Column:
    run, own = suite.run(name), reports.get(name, {})
    served = _served(suite, run, tasks)
    means = [
        summarise((100 * (of[task].dice.mean or 0.0), tasks[task]) for task in served)
        for of in _whole(own, served).values()
    ]
    of_all = {"mean_3d": (3,), "mean_2d": (2,), "mean": (2, 3)}
    shown = [key for key, kinds in of_all.items() if all(task in served for task in tasks if tasks[task] in kinds)]
    difference = None if name == suite.reference else _against(own, reports.get(suite.reference, {}), tasks)
    return Column(
        run=name,
        title=run.title or name,
        tasks={
            task: _score([100 * (of[task].dice.mean or 0.0) for of in own.values() if task in of])
            for task in tasks
            if any(task in of for of in own.values())
        },
        means={
            key: _score([value for value in values if value is not None])
            for key in shown
            if (values := [getattr(mean, key) for mean in means]) and None not in values
        },
        difference=None if difference is None else _score(difference[0]),
        interval=None if difference is None else percentile_interval(difference[1]),
        parameters=_parameters(suite, name),
    )


def _score(values: Sequence[float]) -> Score:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(mean=float(np.mean(values)), spread=spread, seeds=len(values))


def _served(suite: Suite, run: SuiteRun, tasks: Mapping[str, int]) -> list[str]:
    """The tasks that a run's networks are for, in order."""
    if not run.each:
        return list(tasks)
    own = {one.config.output.name for one in trainings(suite, [run.name], seeds=suite.seeds[:1])}
    return [task for task in tasks if task in own]


def _whole(reports: Reports, tasks: Collection[str]) -> dict[int, Mapping[str, Report]]:
    """The seeds that have all tasks."""
    return {seed: of for seed, of in reports.items() if all(task in of for task in tasks)}


def _against(own: Reports, reference: Reports, tasks: Collection[str]) -> tuple[list[float], np.ndarray] | None:
    """The difference of the means over tasks for each seed, and that over tasks and seeds of resampled cases; None
    without a seed that both have whole."""
    mine, theirs = _whole(own, tasks), _whole(reference, tasks)
    seeds = [seed for seed in mine if seed in theirs]
    if not seeds:
        return None
    rng = np.random.default_rng(0)
    found, draws = [], []
    for task in sorted(tasks):
        pairs = [_gaps(mine[seed][task], theirs[seed][task]) for seed in seeds]
        if not all(pairs):
            return None  # a seed's runs were measured on other cases
        names = sorted({name for of in pairs for name in of})
        gaps = 100 * np.array([[of.get(name, 0.0) for name in names] for of in pairs])
        there = np.array([[float(name in of) for name in names] for of in pairs])  # validation cases differ by seed
        picks = rng.integers(len(names), size=(RESAMPLES, len(names)))
        counts = np.stack([np.bincount(pick, minlength=len(names)) for pick in picks])
        cases = counts @ there.T
        means = np.divide(counts @ gaps.T, cases, out=np.full(cases.shape, np.nan), where=cases > 0)
        found.append(gaps.sum(axis=1) / there.sum(axis=1))
        draws.append(np.nanmean(means, axis=1))  # a draw may have no case of a seed
    return np.mean(found, axis=0).tolist(), np.mean(draws, axis=0)


def _gaps(own: Report, reference: Report) -> dict[str, float]:
    theirs = {case.case: case.dice for case in reference.cases}
    return {case.case: case.dice - theirs[case.case] for case in own.cases if case.case in theirs}


def _parameters(suite: Suite, name: str) -> int | None:
    """The parameters of all networks of a run, by the first seed of which all are trained; None where none has."""
    for seed in suite.seeds:
        paths = [model_path(one.config) for one in trainings(suite, [name], seeds=[seed])]
        if all(path.is_file() for path in paths):
            return sum(_parameters_of(path) for path in paths)
    return None


def _parameters_of(path: Path) -> int:
    with damaged_model_means(path):
        return count_parameters(find_model(path)[1].config)["total"]
