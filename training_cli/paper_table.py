"""``meduniseg paper-table``: reports of many data sets as the paper's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training_cli.options import Json
from training_cli.output import table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.evaluation import BootstrapInterval, PaperTable

_TITLES = {
    "upstream": "Upstream (the paper's table 3)",
    "downstream": "Downstream (the paper's table 4, all data)",
    "others": "Other data sets",
}


def paper_table(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="For each run a folder of reports DIR/TASK/report.json of 'evaluate'."),
    ],
    others: Annotated[
        bool, typer.Option("--others", help="Add a table of the data sets that the paper does not have.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a row for each data set, the means over 3D, 2D and all sets, and the paper's figures beside them."""
    from meduniseg_core.evaluation import paper_tables, read_reports, strangers

    with work("none", as_json=as_json) as session:
        runs = [read_reports(folder) for folder in folders]
        names = [folder.resolve().name for folder in folders]
        tables = paper_tables(runs, others=others)
        unknown = [] if others else strangers(runs)
        lines = table_lines(tables, names)
        if unknown:
            lines.append(f"Not among the paper's tasks, and left out: {', '.join(unknown)}.")
        payload = [one.model_dump(mode="json") for one in tables]
        session.result({"runs": names, "tables": payload, "left_out": unknown}, *lines)


def table_lines(tables: Sequence[PaperTable], names: Sequence[str]) -> list[str]:
    """The tables as text; ``names`` are the runs'."""
    return [line for one in tables for line in _lines(one, names)]


def _lines(one: PaperTable, names: Sequence[str]) -> Iterator[str]:
    """The table as text: it is the result, and goes to stdout."""
    from io import StringIO

    from training_cli.output import console

    methods = list(dict.fromkeys(name for row in one.rows for name in row.paper))
    counts = "cases" if one.stage == "others" else "cases (paper)"
    columns = ("data set", counts, *names, *(f"paper: {name}" for name in methods))
    rows: list[tuple[str, ...]] = [
        (
            row.dataset,
            str(row.cases) if row.paper_cases is None else f"{row.cases} ({row.paper_cases})",
            *(_percent(score, own) for score, own in zip(row.scores, row.intervals, strict=True)),
            *(_percent(row.paper.get(name)) for name in methods),
        )
        for row in one.rows
    ]
    for title, field in (("3D mean", "mean_3d"), ("2D mean", "mean_2d"), ("mean", "mean")):
        ours = [
            _percent(getattr(mean, field), of.get(field)) for mean, of in zip(one.means, one.intervals, strict=True)
        ]
        rows.append((title, "", *ours, *_paper_means(one, methods, field)))
    stream = StringIO()
    console(stream).print(table(columns, rows, right=columns[1:], title=_TITLES[one.stage]))
    yield from (line.rstrip() for line in stream.getvalue().splitlines())
    if any(one.intervals):
        yield "In brackets: 95 % intervals by resampling the test cases; the paper gives none."
    if len(one.rows) < one.sets and one.stage != "others":
        yield f"{len(one.rows)} of the paper's {one.sets} data sets; the means are over these."
    other_images = [
        f"{row.dataset} ({row.cases}, not {row.paper_cases})"
        for row in one.rows
        if row.paper_cases is not None and row.cases != row.paper_cases
    ]
    if other_images:
        yield f"Not measured on the paper's test images, by their number: {', '.join(other_images)}."
    if one.paper_means:
        figures = ", ".join(f"{name} {value:.1f}" for name, value in one.paper_means.items())
        yield f"The paper's means over all {one.sets}: {figures}."


def _paper_means(one: PaperTable, methods: Sequence[str], field: str) -> list[str]:
    """The paper's means of the sets shown, where it gives a figure for each of them."""
    known = [(row.dimension, row.paper) for row in one.rows]
    wanted = {"mean_3d": (3,), "mean_2d": (2,), "mean": (2, 3)}[field]
    shown = [[paper.get(name) for dimension, paper in known if dimension in wanted] for name in methods]
    return [
        _percent(sum(value or 0 for value in column) / len(column) if column and None not in column else None)
        for column in shown
    ]


def _percent(value: float | None, interval: BootstrapInterval | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" + ("" if interval is None else f" [{interval.low:.1f}, {interval.high:.1f}]")
