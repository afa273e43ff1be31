"""``meduniseg dataset``: converts, checks, plans and preprocesses data sets."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.files import read_small
from meduniseg_core.structured_text import parse_json
from training_cli.catalog import TASK_COLUMNS, task_row
from training_cli.commands import Commands
from training_cli.options import Json, ProgressOption, a_folder
from training_cli.output import table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.conversion import ConversionResult
    from meduniseg_core.preprocessing import CachedDataset, RawDataset

app = Commands(help="Convert, check, plan and preprocess data sets in nnU-Net v2 raw layout.", no_args_is_help=True)

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Data-set folders (dataset.json, imagesTr, ...).")
]
PlannerOption = Annotated[
    Literal["default", "paper", "nnunet"],
    typer.Option(
        "--planner",
        help="paper: the paper's grid, patch and batch; nnunet: nnU-Net's rules; default: the median spacing, patch "
        "and batch of the paper's size.",
    ),
]
GpuMemory = Annotated[
    float | None,
    typer.Option("--gpu-memory", metavar="GIB", min=0.1, help="Plan patch and batch for a GPU with this much memory."),
]
Processes = Annotated[int, typer.Option("--processes", "-j", min=1, help="Number of cases to work on at once.")]
Plans = Annotated[
    Path | None,
    typer.Option("--plans", metavar="FILE", help="Plans written by 'dataset plan', edited or not. Default: plan now."),
]


@app.command()
def convert(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|all", help="Data set, as 'dataset layouts' lists them; all: whatever SOURCE holds."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of the unpacked official download; for 'all' one with a folder for each."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            callback=a_folder,
            metavar="DIR",
            help="Data-set folder to write; for 'all' the folder of these.",
        ),
    ],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the split, where there is no official one.")] = 0,
    processes: Processes = 1,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Convert the paper's data sets from their official downloads; a second run does only what is new or changed.

    Exit code 3 if a case could not be converted; the others are.
    """
    from meduniseg_core.conversion import convert_all, convert_dataset, find_conversion

    if name == "all":
        with work(progress, as_json=as_json) as session:
            every = convert_all(
                source, output, seed=seed, processes=processes, events=session.events, cancel=session.cancel
            )
            lines = [line for own, done in every.items() for line in _account(own, done)]
            session.result({"datasets": [_converted(own, done) for own, done in every.items()]}, *lines)
        return BadInputError.exit_code if any(done.faults for done in every.values()) else 0
    entry = find_conversion(name)
    with work(progress, as_json=as_json) as session:
        done = convert_dataset(
            entry, source, output, seed=seed, processes=processes, events=session.events, cancel=session.cancel
        )
        session.result(_converted(entry.name, done), *_account(entry.name, done))
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
    planner: PlannerOption = "default",
    gpu_memory: GpuMemory = None,
    processes: Processes = 1,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Choose spacing, patch and normalisation for each data set; write them as JSON, which you may edit."""
    from meduniseg_core.preprocessing import load_plans, plan_dataset, save_plans

    there = os.path.lexists(output)
    if there and not replace:
        raise UsageError(f"{output} exists already and may have been edited; give another --output, or --replace it.")
    if there and not (output.suffix.lower() == ".json" and _broken(output)):
        load_plans(output)  # nothing else is replaced
    with work(progress, as_json=as_json) as session:
        datasets = [_opened(folder) for folder in folders]
        plans = [
            plan_dataset(
                dataset,
                planner,
                gpu_memory=gpu_memory,
                parallel=processes,
                events=session.events,
                cancel=session.cancel,
            )
            for dataset in datasets
        ]
        _refuse_equal_tasks([plan.task for plan in plans])
        save_plans(plans, output, replace=there)
        rows = [(*task_row(plan), " x ".join(map(str, plan.patch)), plan.batch) for plan in plans]
        session.show(table((*TASK_COLUMNS, "patch", "batch"), rows, right=("batch",)))
        session.result({"file": output, "plans": [plan.model_dump(mode="json") for plan in plans]}, str(output))


@app.command()
def preprocess(
    folders: Folders,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", callback=a_folder, metavar="CACHE_DIR", help="Folder for the preprocessed cases."
        ),
    ],
    plans: Plans = None,
    planner: PlannerOption = "default",
    gpu_memory: GpuMemory = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do the I-th of N parts: several machines fill one cache."),
    ] = None,
    only_changed: Annotated[
        bool,
        typer.Option(
            "--only-changed", help="Do not read files again whose size and times are those of the last preprocessing."
        ),
    ] = False,
    processes: Processes = 1,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Preprocess the training cases into a cache; cached cases that are still valid are kept."""
    from meduniseg_core.archive.shards import Shard
    from meduniseg_core.preprocessing import load_plans, plan_dataset, preprocess_dataset
    from meduniseg_core.preprocessing.cache import source_files

    if plans is not None and (planner != "default" or gpu_memory is not None):
        raise UsageError("--plans says how cases are preprocessed; leave --planner and --gpu-memory out.")
    part = None if shard is None else Shard.parse(shard)
    known = {plan.task: plan for plan in load_plans(plans)} if plans is not None else None
    with work(progress, as_json=as_json) as session:
        datasets = [_opened(folder) for folder in folders]
        _refuse_equal_tasks([dataset.task for dataset in datasets])
        reports = []
        for dataset in datasets:
            began = time.monotonic()
            sources = source_files(dataset, output, trust_times=only_changed)
            if known is None:
                task_plan = plan_dataset(
                    dataset,
                    planner,
                    gpu_memory=gpu_memory,
                    parallel=processes,
                    cache_dir=output,
                    sources=sources,
                    events=session.events,
                    cancel=session.cancel,
                )
            elif dataset.task in known:
                task_plan = known[dataset.task]
            else:
                raise UsageError(
                    f"{plans} has no plan of task '{dataset.task}' ({dataset.folder}); plan that data set too."
                )
            cached = preprocess_dataset(
                dataset,
                task_plan,
                output,
                session.events,
                session.cancel,
                parallel=processes,
                only=None if part is None else part.of([case.case for case in dataset.training_cases()]),
                sources=sources,
            )
            reports.append(_statistics(cached, time.monotonic() - began))
        session.result({"datasets": reports}, *map(_cache_line, reports))


def _statistics(cached: CachedDataset, seconds: float) -> dict[str, Any]:
    from statistics import median

    voxels = [math.prod(case.shape) for case in cached]
    return {
        "task": cached.task,
        "folder": cached.folder,
        "cases": len(cached),
        "made": len(cached.made),
        "bytes": cached.bytes,
        "voxels": sum(voxels),
        "median_shape": [int(median([case.shape[axis] for case in cached])) for axis in range(3)] if voxels else None,
        "class_voxels": cached.class_voxels,
        "seconds": round(seconds, 2),
    }


def _cache_line(report: dict[str, Any]) -> str:
    kept = report["cases"] - report["made"]
    text = f"{report['task']}: {report['cases']} cases in {report['folder']}, {report['made']} made now, {kept} kept"
    if report["median_shape"] is None:
        return text
    shape = " x ".join(map(str, report["median_shape"]))
    return f"{text}; {report['bytes'] / 2**20:.1f} MiB, median {shape} voxels, {report['seconds']:.1f} s"


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


def _converted(name: str, done: ConversionResult) -> dict[str, Any]:
    return {
        "dataset": name,
        "folder": done.folder,
        "cases": {"Tr": done.train, "Ts": done.test},
        "converted": done.converted,
        "deviations": done.deviations,
        "warnings": done.warnings,
        "problems": done.faults,
    }


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
