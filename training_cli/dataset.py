"""``meduniseg dataset``: checks data sets, plans their preprocessing and preprocesses them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import parse_json, read_small
from training_cli.catalog import TASK_COLUMNS, task_row
from training_cli.options import Json, ProgressOption
from training_cli.output import table
from training_cli.session import work

app = typer.Typer(help="Check, plan and preprocess data sets in nnU-Net v2 raw layout.", no_args_is_help=True)

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Data-set folders (dataset.json, imagesTr, ...).")
]
Plans = Annotated[
    Path | None,
    typer.Option("--plans", metavar="FILE", help="Plans written by 'dataset plan', edited or not. Default: plan now."),
]


@app.command()
def check(folders: Folders, progress: ProgressOption = "auto", as_json: Json = False) -> int:
    """Read every image and label map, and report every problem (exit code 3 if there is one)."""
    from meduniseg_core.preprocessing import RawDataset, check_dataset

    with work(progress, as_json=as_json) as session:
        reports = []
        for folder in folders:
            dataset = RawDataset.open(folder)
            problems = check_dataset(dataset, events=session.events, cancel=session.cancel)
            counts = {split: len(dataset.cases(split)) for split in ("Tr", "Ts")} if not problems else None
            reports.append({"folder": folder, "task": dataset.task, "cases": counts, "problems": problems})
        lines = [line for report in reports for line in _verdict(report)]
        session.result({"datasets": reports}, *lines)
    return BadInputError.exit_code if any(report["problems"] for report in reports) else 0


def _broken(path: Path) -> bool:
    """Whether a file is not valid JSON: plans damaged by an editor may be replaced."""
    try:
        parse_json(read_small(path).decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError):
        return True
    return False


@app.command()
def plan(
    folders: Folders,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File for the plans.")] = Path(
        "plans.json"
    ),
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite existing plans.")] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Choose spacing, patch and normalisation for each data set; write them as JSON, which you may edit."""
    from meduniseg_core.preprocessing import RawDataset, load_plans, make_plan, save_plans

    there = os.path.lexists(output)
    if there and not replace:
        raise UsageError(f"{output} is there already, perhaps edited; give another --output or --replace it.")
    if there and not (output.suffix.lower() == ".json" and _broken(output)):
        load_plans(output)  # nothing else is replaced
    with work(progress, as_json=as_json) as session:
        datasets = [RawDataset.open(folder) for folder in folders]
        plans = [make_plan(dataset, events=session.events, cancel=session.cancel) for dataset in datasets]
        _refuse_equal_tasks([plan.task for plan in plans])
        save_plans(plans, output, replace=there)
        rows = [(*task_row(plan), " x ".join(map(str, plan.patch)), plan.batch) for plan in plans]
        session.show(table((*TASK_COLUMNS, "patch", "batch"), rows, right=("batch",)))
        session.result({"file": output, "plans": [plan.model_dump(mode="json") for plan in plans]}, str(output))


@app.command()
def preprocess(
    folders: Folders,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CACHE_DIR", help="Folder for the preprocessed cases.")
    ],
    plans: Plans = None,
    processes: Annotated[int, typer.Option("--processes", "-j", min=1, help="Number of cases to work on at once.")] = 1,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Preprocess the training cases into a cache; cached cases that are still valid are kept."""
    from meduniseg_core.preprocessing import RawDataset, load_plans, make_plan, preprocess_dataset

    known = {plan.task: plan for plan in load_plans(plans)} if plans is not None else None
    with work(progress, as_json=as_json) as session:
        datasets = [RawDataset.open(folder) for folder in folders]
        _refuse_equal_tasks([dataset.task for dataset in datasets])
        reports = []
        for dataset in datasets:
            if known is None:
                task_plan = make_plan(dataset, events=session.events, cancel=session.cancel)
            elif dataset.task in known:
                task_plan = known[dataset.task]
            else:
                raise UsageError(
                    f"{plans} has no plan of task '{dataset.task}' ({dataset.folder}); plan that data set too."
                )
            cached = preprocess_dataset(dataset, task_plan, output, session.events, session.cancel, parallel=processes)
            reports.append({"task": cached.task, "folder": cached.folder, "cases": len(cached)})
        lines = (f"{report['task']}: {report['cases']} cases in {report['folder']}" for report in reports)
        session.result({"datasets": reports}, *lines)


def _verdict(report: dict[str, Any]) -> list[str]:
    if report["problems"]:
        return [
            f"{report['folder']}: {len(report['problems'])} problem(s)",
            *(f"  {line}" for line in report["problems"]),
        ]
    counts = report["cases"]
    return [
        f"{report['folder']}: task {report['task']}, {counts['Tr']} training and {counts['Ts']} test cases, fit for use"
    ]


def _refuse_equal_tasks(tasks: list[str]) -> None:
    for task in tasks:
        if tasks.count(task) > 1:
            raise UsageError(
                f"Two data sets have the task '{task}'; give one of them another \"task\" in its dataset.json."
            )
