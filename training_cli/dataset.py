"""``meduniseg dataset``: converts, checks, plans and preprocesses data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.files import parse_json, read_small
from training_cli.catalog import TASK_COLUMNS, task_row
from training_cli.options import Json, ProgressOption
from training_cli.output import table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.conversion import ConversionResult
    from meduniseg_core.preprocessing import RawDataset

app = typer.Typer(help="Convert, check, plan and preprocess data sets in nnU-Net v2 raw layout.", no_args_is_help=True)

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Data-set folders (dataset.json, imagesTr, ...).")
]
Plans = Annotated[
    Path | None,
    typer.Option("--plans", metavar="FILE", help="Plans written by 'dataset plan', edited or not. Default: plan now."),
]


@app.command()
def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set, as 'dataset layouts' lists them.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of the unpacked official download.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Data-set folder to write.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the split, where there is no official one.")] = 0,
    processes: Annotated[int, typer.Option("--processes", "-j", min=1, help="Number of cases to work on at once.")] = 1,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Convert one of the paper's data sets from its official download; a second run does only what is new or changed.

    Exit code 3 if a case could not be converted; the others are.
    """
    from meduniseg_core.conversion import convert_dataset, find_conversion

    entry = find_conversion(name)
    with work(progress, as_json=as_json) as session:
        done = convert_dataset(
            entry, source, output, seed=seed, processes=processes, events=session.events, cancel=session.cancel
        )
        payload = {
            "dataset": entry.name,
            "folder": done.folder,
            "cases": {"Tr": done.train, "Ts": done.test},
            "converted": done.converted,
            "deviations": done.deviations,
            "warnings": done.warnings,
            "problems": done.faults,
        }
        session.result(payload, *_account(entry.name, done))
    return BadInputError.exit_code if done.faults else 0


@app.command()
def layouts(as_json: Json = False) -> None:
    """List the data sets that can be converted: how their downloads look, where they are, and the paper's counts."""
    from meduniseg_core.conversion import CONVERSIONS

    with work("auto", as_json=as_json) as session:
        entries = [
            {
                "name": entry.name,
                "task": entry.task.name,
                "modality": entry.task.modality,
                "train": entry.task.train,
                "test": entry.task.test,
                "split": entry.split,
                "layout": entry.layout,
                "page": entry.page,
                "licence": entry.licence,
            }
            for entry in CONVERSIONS.values()
        ]
        lines = [
            line
            for entry in entries
            for line in (f"{entry['name']} ({entry['task']}): {entry['layout']}", f"  {entry['page']}")
        ]
        session.result({"datasets": entries}, *lines)


@app.command()
def check(folders: Folders, progress: ProgressOption = "auto", as_json: Json = False) -> int:
    """Read every image and label map, and report every problem (exit code 3 if there is one)."""
    from meduniseg_core.preprocessing import check_dataset

    with work(progress, as_json=as_json) as session:
        reports = []
        for folder in folders:
            dataset = _opened(folder)
            warnings: list[str] = []

            def heard(event: Event, warnings: list[str] = warnings) -> None:
                if isinstance(event, Message) and event.level == "warning":
                    warnings.append(event.text)
                session.events(event)

            problems = check_dataset(dataset, events=heard, cancel=session.cancel)
            counts = {split: len(dataset.cases(split)) for split in ("Tr", "Ts")} if not problems else None
            reports.append(
                {"folder": folder, "task": dataset.task, "cases": counts, "problems": problems, "warnings": warnings}
            )
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
    from meduniseg_core.preprocessing import load_plans, make_plan, save_plans

    there = os.path.lexists(output)
    if there and not replace:
        raise UsageError(f"{output} is there already, perhaps edited; give another --output or --replace it.")
    if there and not (output.suffix.lower() == ".json" and _broken(output)):
        load_plans(output)  # nothing else is replaced
    with work(progress, as_json=as_json) as session:
        datasets = [_opened(folder) for folder in folders]
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
    from meduniseg_core.preprocessing import load_plans, make_plan, preprocess_dataset

    known = {plan.task: plan for plan in load_plans(plans)} if plans is not None else None
    with work(progress, as_json=as_json) as session:
        datasets = [_opened(folder) for folder in folders]
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


def _opened(folder: Path) -> RawDataset:
    """The data set; where the folder is an official download instead, the error says how to convert it."""
    from meduniseg_core.preprocessing import RawDataset

    try:
        return RawDataset.open(folder)
    except BadInputError as error:
        if not folder.is_dir():
            raise
        from meduniseg_core.conversion import recognise

        likely = recognise(folder)
        if not likely:
            raise
        names = " or ".join(entry.name for entry in likely[:3])
        raise BadInputError(
            f"{folder} looks like the official download of {names}; "
            f"convert it with 'meduniseg dataset convert {likely[0].name} {folder} -o DIR'."
        ) from error


def _account(name: str, done: ConversionResult) -> list[str]:
    counts = f"{done.train} training and {done.test} test cases in {done.folder}, {done.converted} converted now"
    return [
        f"{name}: {counts}",
        *(f"  {line}" for line in (*done.deviations, *done.warnings)),
        *(f"  not converted: {line}" for line in done.faults),
    ]


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
