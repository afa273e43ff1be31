"""``meduniseg ablate``: trains a suite of configurations under one budget and shows the paper's tables of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.options import Json, ProgressOption
from training_cli.output import table
from training_cli.session import repeatable, work

if TYPE_CHECKING:
    from rich.table import Table

    from meduniseg_core.training.ablation_tables import AblationTable


def ablate(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE.toml", help="The suite: base configuration, budget, runs, seeds, tables.")
    ],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RUN", help="Train only this run of the suite. Repeatable.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", metavar="N", help="Train only this seed of the suite's. Repeatable.")
    ] = None,
    show: Annotated[bool, typer.Option("--tables", help="Train nothing; show the tables of what is done.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Train nothing; list what would be trained.")] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Train every run of a suite with every seed, measure all on the same cases, and show tables with spread.

    What is done already is not done again: stop and continue as you like, on several machines with --only and --seed.
    The tables are also written to tables.md and tables.json in the suite's output folder.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.files import write_text
        from meduniseg_core.structured_text import json_text
        from meduniseg_core.training.ablation import read_suite, run_suite, trainings
        from meduniseg_core.training.ablation_tables import ablation_tables, suite_markdown, table_rows

        if plan and show:
            raise UsageError("--plan and --tables both train nothing; give one of them.")
        asked = read_suite(suite)
        if plan:
            listed = [one.config for one in trainings(asked, only or (), seeds=seed)]
            iterations = sum(config.total_iterations for config in listed)
            lines = [f"{config.name}: {config.total_iterations} iterations" for config in listed]
            payload = {
                "trainings": {config.name: config.total_iterations for config in listed},
                "iterations": iterations,
            }
            session.result(payload, *lines, f"{len(listed)} trainings, {iterations} iterations in all")
            return
        if not show:
            with repeatable():
                run_suite(asked, only or (), seeds=seed, events=session.events, cancel=session.cancel)
        tables = ablation_tables(asked)
        payload = {"tables": [one.model_dump(mode="json") for one in tables]}
        asked.output.mkdir(parents=True, exist_ok=True)
        write_text(asked.output / "tables.json", json_text(payload))
        write_text(asked.output / "tables.md", suite_markdown(tables, asked))
        for one in tables:
            session.show(_shown(one, table_rows(one)))
        session.result(payload, str(asked.output / "tables.md"))


def _shown(one: AblationTable, rows: list[list[str]]) -> Table:
    head, *body = rows
    return table(
        tuple(head), [tuple(row) for row in body], right=tuple(head[1:]), title=f"Table {one.number}: {one.title}"
    )
