"""``meduniseg test``: measures a training's model on the test cases of its data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training_cli.options import Json, ProgressOption
from training_cli.paper_table import table_lines
from training_cli.session import work


def test(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The configuration of 'meduniseg train'.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", metavar="FILE", help="Another model file than the one that the training made."),
    ] = None,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Segment the test cases of a training's data sets and report on them, in the layout of the paper's tables.

    The reports are in test/TASK in the run's folder. A second run does only what is new or changed.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.evaluation import paper_tables
        from meduniseg_core.training import TrainingConfig
        from meduniseg_core.training.run_report import report_run

        settings = TrainingConfig.from_toml(config)
        done = report_run(settings, model=model, events=session.events, cancel=session.cancel)
        tables = paper_tables([done.reports], others=True)
        lines = table_lines(tables, [settings.name])
        if done.untested:
            lines.append(f"Without test cases: {', '.join(done.untested)}.")
        payload = {
            "model": done.model,
            "reports": done.folder,
            "tables": [table.model_dump(mode="json") for table in tables],
            "untested": done.untested,
        }
        session.result(payload, *lines, str(done.folder))
