"""The tables of an ablation: means and spread over seeds, and differences to the reference with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.evaluation import BootstrapInterval, Report, summarise
from meduniseg_core.evaluation.intervals import RESAMPLES, percentile_interval
from meduniseg_core.model.networks import count_parameters
from meduniseg_core.training.ablation import Suite, SuiteTable, suite_reports, suite_tasks, trainings
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
    """One run: its scores by task, and the means over 3D tasks, 2D tasks and all (by mean_3d, mean_2d, mean).

    ``difference`` is that of ``mean`` to the reference run's, over the seeds and tasks that both have, and ``interval``
    its 95 % interval by resampling the cases. ``parameters`` of all its networks.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    title: str
    tasks: dict[str, Score]
    means: dict[str, Score]
    difference: float | None
    interval: BootstrapInterval | None
    parameters: int | None


class AblationTable(BaseModel):
    """One table: its runs in order."""

    model_config = ConfigDict(frozen=True)

    number: int
    title: str
    rows: str
    columns: tuple[Column, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the table's runs."""
        return tuple(dict.fromkeys(task for column in self.columns for task in column.tasks))


def ablation_tables(suite: Suite) -> tuple[AblationTable, ...]:
    """Make the tables of what is done of a suite.

    Args:
        suite: the suite.

    Returns:
        Its tables; a run of which nothing is done yet has no scores.

    Raises:
        BadInputError: a report cannot be read.
    """
    reports = suite_reports(suite)
    wanted = suite.tables or (SuiteTable(number=1, title=suite.name, runs=tuple(run.name for run in suite.runs)),)
    columns = {run.name: _column(suite, run.name, reports) for run in suite.runs}
    return tuple(
        AblationTable(
            number=table.number,
            title=table.title,
            rows=table.rows,
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
    done = max((_most(table) for table in tables), default=0)
    if done < len(suite.seeds):
        lines += [f"**{done} of {len(suite.seeds)} seeds {'is' if done == 1 else 'are'} done.**", ""]
    lines += [
        f"Mean Dice in %, on the {suite.cases} cases, mean ± standard deviation over seeds ({seeds}; in brackets how "
        "many are done where others have more). Differences are to "
        f"{reference.title or reference.name}, on the same seeds, tasks and cases, with the 95 % interval by "
        "resampling the cases.",
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
    most = _most(table)
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


def _most(table: AblationTable) -> int:
    """The seeds that a run of a table has at most."""
    return max((score.seeds for column in table.columns for score in column.means.values()), default=0)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(score: Score | None, most: int) -> str:
    if score is None:
        return "-"
    spread = "" if score.spread is None else f" ± {score.spread:.1f}"
    return f"{score.mean:.1f}{spread}" + ("" if score.seeds == most else f" ({score.seeds})")


def _difference(column: Column) -> str:
    if column.difference is None:
        return "-"
    interval = column.interval
    return f"{column.difference:+.1f}" + ("" if interval is None else f" [{interval.low:+.1f}, {interval.high:+.1f}]")


def _column(suite: Suite, name: str, reports: Mapping[str, Reports]) -> Column:
    run, own = suite.run(name), reports.get(name, {})
    there = {task for seed in own.values() for task in seed}
    tasks = [task for task in suite_tasks(suite) if task in there]
    complete = {seed: of for seed, of in own.items() if len(of) == len(suite.base["datasets"])}
    means = [
        summarise((100 * (of[task].dice.mean or 0.0), _dimension(of[task])) for task in of) for of in complete.values()
    ]
    difference = None if name == suite.reference else _against(own, reports.get(suite.reference, {}))
    return Column(
        run=name,
        title=run.title or name,
        tasks={
            task: _score([100 * (of[task].dice.mean or 0.0) for of in own.values() if task in of]) for task in tasks
        },
        means={
            key: _score([value for value in values if value is not None])
            for key in ("mean_3d", "mean_2d", "mean")
            if (values := [getattr(mean, key) for mean in means]) and None not in values
        },
        difference=None if difference is None else float(np.mean(difference[0])),
        interval=None if difference is None else percentile_interval(difference[1]),
        parameters=_parameters(suite, name),
    )


def _score(values: Sequence[float]) -> Score:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(mean=float(np.mean(values)), spread=spread, seeds=len(values))


def _dimension(report: Report) -> int:
    return max(case.dimension for case in report.cases)


def _against(own: Reports, reference: Reports) -> tuple[list[float], np.ndarray] | None:
    """Differences by task over the seeds that both have, and those of resampled cases, averaged over tasks."""
    pairs: dict[str, dict[str, list[float]]] = {}
    for seed in own.keys() & reference.keys():
        for task in own[seed].keys() & reference[seed].keys():
            theirs = {case.case: case.dice for case in reference[seed][task].cases}
            for case in own[seed][task].cases:
                if case.case in theirs:
                    pairs.setdefault(task, {}).setdefault(case.case, []).append(case.dice - theirs[case.case])
    if not pairs:
        return None
    rng = np.random.default_rng(0)
    by_case = [
        100 * np.array([np.mean(seeds) for _, seeds in sorted(cases.items())]) for _, cases in sorted(pairs.items())
    ]
    draws = [gaps[rng.integers(gaps.size, size=(RESAMPLES, gaps.size))].mean(axis=1) for gaps in by_case]
    return [float(gaps.mean()) for gaps in by_case], np.mean(draws, axis=0)


def _parameters(suite: Suite, name: str) -> int | None:
    """The parameters of all networks of a run's first seed; None until they are trained."""
    total = 0
    for one in trainings(suite, [name]):
        if one.seed != suite.seeds[0]:
            continue
        path = one.config.output / f"{one.config.name}.safetensors"
        if not path.is_file():
            return None
        total += count_parameters(find_model(path)[1].config)["total"]
    return total
