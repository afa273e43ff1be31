"""``meduniseg refine``: trains a pack that improves a model's weak tasks (MedUniSeg*)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.job_results import carry_out, into_use, show_result
from training_cli.options import Device, Json, Precision, ProgressOption, split_names
from training_cli.output import table
from training_cli.session import Session, work

if TYPE_CHECKING:
    from rich.table import Table

    from meduniseg_core.evaluation import TaskGap


def refine(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATASET...",
            help="Folders in nnU-Net's raw layout, or ledgers. Default: your corrections of --tasks.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--output", "-o", metavar="NAME", help="The pack's name.")] = None,
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model to refine.")] = "starter",
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="TASK[,TASK...]", help="Tasks to refine. Default: all tasks of the data sets."),
    ] = None,
    iterations: Annotated[
        int, typer.Option("--iterations", min=1, help="Iterations for each task, rounded up to epochs of 50.")
    ] = 50_000,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="CASE", help="Case to leave out. Repeatable.")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, max=1024, help="Rank of the low-rank updates.")] = 32,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder of the run. Default: in the user's data folder.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split, the order and the augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the training: make a pack of its best checkpoint so far.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Compare the refined tasks with the base on the validation cases.")
    ] = True,
    install: Annotated[bool, typer.Option("--install/--no-install", help="Install the pack on this machine.")] = True,
    activate: Annotated[bool, typer.Option("--activate", help="Put the pack into use at once.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an installed pack of the same name.")] = False,
    suggest: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--suggest",
            metavar="REPORTS REFERENCES",
            help="Train nothing; list the tasks that are behind. REPORTS: from 'meduniseg evaluate' for the model, one "
            "file or a folder with one per task. REFERENCES: the same for single-task networks or an earlier version.",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Refine tasks of a frozen model. The result is a small pack; all other tasks stay as they are.

    'meduniseg models packs activate NAME' puts the pack into use. --suggest says which tasks need one.
    """
    with work(progress, as_json=as_json) as session:
        if suggest is not None:
            if datasets or name is not None:
                raise UsageError("--suggest only reads two evaluations; leave data sets and --output out.")
            _suggest(session, *suggest)
            return
        if not datasets and tasks is None:
            raise UsageError("Name the data sets to refine on, or --tasks to refine on your own corrections of them.")
        if name is None:
            raise UsageError("Name the new pack with --output.")
        if activate and not install:
            raise UsageError("A pack that is not installed cannot be put into use; leave --no-install out.")

        from meduniseg_core.adaptation.execution import check_pack_name
        from meduniseg_core.adaptation.jobs import refine_job
        from meduniseg_core.adaptation.refine import datasets_of
        from meduniseg_core.adaptation.run import runs_folder
        from meduniseg_core.weights import load_model

        check_pack_name(name, install=install and not (replace or resume or finish))
        model = load_model(base)
        place = folder if folder is not None else runs_folder() / name
        job = refine_job(
            datasets_of(model, datasets or (), split_names(tasks)),
            name,
            base,
            iterations=iterations,
            leave_out=tuple(leave_out or ()),
            rank=rank,
            seed=seed,
            device=device,
            precision=precision,
            compare=compare,
            install=install,
            activate=activate,
            replace=replace,
        )
        # the listed runs are of one data set each
        listed = folder is None and len(job.datasets) == 1
        result = carry_out(session, job, model, place, listed=listed, resume=resume, finish=finish)
        if result.in_use_for:
            show_result(session, job, result, f"{name} is in use for {', '.join(result.in_use_for)}")
        elif result.installed:
            show_result(session, job, result, into_use(result, f"meduniseg models packs activate {name}"))
        else:
            show_result(session, job, result)


def _suggest(session: Session, reports: Path, references: Path) -> None:
    """Show which tasks are behind, the clearest first."""
    from meduniseg_core.evaluation import read_reports, task_gaps

    ours, theirs = read_reports(reports), read_reports(references)
    gaps = task_gaps(ours, theirs)
    behind = [gap.task for gap in gaps if gap.under_performing]
    session.show(_table(gaps))
    one_sided = sorted(ours.keys() ^ theirs.keys())
    if one_sided:
        session.show(f"Only one side has: {', '.join(one_sided)}.")
    line = (
        f"Clearly behind: {', '.join(behind)}; see 'meduniseg refine DATASET... --tasks {','.join(behind)} -o NAME'"
        if behind
        else "No task is clearly behind"
    )
    payload = {
        "tasks": [{**gap.model_dump(mode="json")} for gap in gaps],
        "suggested": behind,
        "only_on_one_side": one_sided,
    }
    session.result(payload, line)


def _table(gaps: Sequence[TaskGap]) -> Table:
    rows = [
        (
            gap.task,
            str(gap.cases),
            f"{gap.dice:.3f}",
            f"{gap.reference_dice:.3f}",
            f"{gap.gap:+.3f} ({gap.interval.low:+.3f} to {gap.interval.high:+.3f})",
            ", ".join(f"{case.case} ({case.dice:.2f}, {case.reference_dice:.2f})" for case in gap.worst),
        )
        for gap in gaps
    ]
    columns = ("task", "cases", "Dice", "reference", "behind (95 % interval)", "worst cases (Dice, reference)")
    return table(columns, rows, right=("cases", "Dice", "reference"))
