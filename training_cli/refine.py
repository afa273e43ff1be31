"""``meduniseg refine``: weak tasks of a model learned anew beside it, as a pack (MedUniSeg*)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import UsageError
from training_cli.listed import comparison, request_of, taken_up
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.output import table
from training_cli.packs import split_names
from training_cli.session import Session, resumable, work

if TYPE_CHECKING:
    from rich.table import Table

    from meduniseg_core.adaptation.runs import Run
    from meduniseg_core.evaluation import TaskGap
    from meduniseg_core.weights import Model


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
            help="Train nothing; list the tasks that are behind. Takes reports of 'meduniseg evaluate' (one, or a "
            "folder with one for each task) of the model, and of single-task networks or an earlier version.",
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
            raise UsageError("A pack that is not installed cannot be taken into use; leave --no-install out.")

        from meduniseg_core.adaptation.refine import datasets_of, refine_config
        from meduniseg_core.adaptation.refine import refine as run_refinement
        from meduniseg_core.adaptation.runs import runs_folder
        from meduniseg_core.weights import PackRegistry, load_model

        registry = PackRegistry()
        if install and not (replace or resume or finish) and name in [entry.name for entry in registry.list()]:
            raise UsageError(f"There is a pack '{name}' already; choose another name, or --replace it.")
        model = load_model(base)
        chosen = datasets_of(model, datasets or (), split_names(tasks))
        place = folder if folder is not None else runs_folder() / name
        config = refine_config(
            chosen, model, name, place, iterations=iterations, seed=seed, device=device, precision=precision
        ).model_copy(update={"leave_out": tuple(leave_out or ())})
        passed = tuple(word for case in leave_out or () for word in ("--leave-out", case))
        going_on = resume or finish
        run = (
            _run(name, base, chosen, iterations, rank, seed, device, precision, passed, going_on)
            if folder is None
            else None
        )
        with resumable(config.output):
            result = run_refinement(
                model,
                config,
                rank=rank,
                alpha=2.0 * rank,  # the paper's ratio
                resume=resume,
                finish=finish,
                events=session.events,
                cancel=session.cancel,
            )
        answer: dict[str, Any] = dataclasses.asdict(result)
        pack = answer["pack"] = answer.pop("model")
        dice = "" if result.best_dice is None else f", best validation Dice {result.best_dice:.3f}"
        lines = [f"{pack}{dice}, {result.seconds / 60:.1f} min"]
        if compare:
            answer["gate"] = _judge(session, model, pack, chosen, place, device, precision)
            lines += [
                f"{task}: {found['reason']} {found['bias']}".strip() + f" ({found['html']})"
                for task, found in answer["gate"].items()
            ]
        answer["installed"], answer["in_use_for"] = install, []
        if install:
            entry = registry.install(pack, replace=replace)
            if activate:
                used = registry.activate(entry.name)
                answer["in_use_for"] = [task for task, own in used.items() if own == entry.name]
                lines.append(f"{entry.name} is in use for {', '.join(answer['in_use_for'])}")
            else:
                lines.append(f"'meduniseg models packs activate {entry.name}' takes it into use")
        if run is not None:
            run.answered(answer)
        session.result(answer, *lines)


def _run(
    name: str,
    base: str,
    datasets: Sequence[Path],
    iterations: int,
    rank: int,
    seed: int,
    device: str,
    precision: str,
    passed: Sequence[str],
    going_on: bool,
) -> Run | None:
    """This training as one of the listed runs, which are of one data set each; None for several."""
    if len(datasets) > 1:
        return None
    options = [
        *("--iterations", str(iterations), "--rank", str(rank), "--seed", str(seed)),
        *("--device", device, "--precision", precision, *passed),
    ]
    return taken_up(request_of("refine", datasets[0], name, base, options), going_on)


def _judge(
    session: Session, model: Model, file: Path, datasets: Sequence[Path], place: Path, device: str, precision: str
) -> dict[str, Any]:
    """Task -> the comparison of base and pack on the cases that the run held back; reports in ``place/gate``."""
    from meduniseg_core.adaptation.finetune import data_of
    from meduniseg_core.adaptation.gate import Side, gate, refined_note
    from meduniseg_core.adaptation.gate_files import write_gate
    from meduniseg_core.adaptation.judging import GATE
    from meduniseg_core.inference import Predictor
    from meduniseg_core.preprocessing import RawDataset
    from meduniseg_core.training.prepare import CASES_FILE
    from meduniseg_core.training.split import read_splits
    from meduniseg_core.weights import read_pack

    pack = read_pack(file)
    splits = read_splits(place / "run" / CASES_FILE)
    before = Side(model.info.name, model.sha256, Predictor(model, device, precision))
    packs = dict.fromkeys(pack.info.tasks, pack)
    after = Side(pack.info.name, pack.sha256, Predictor(model, device, precision, packs=packs))
    found = {}
    for folder in datasets:
        dataset = RawDataset.open(data_of(folder, RawDataset.open(folder).task, place / "run"))
        held = splits[dataset.task].validation
        notes = refined_note(model, pack)
        report = gate(before, after, dataset, held, notes=notes, events=session.events, cancel=session.cancel)
        target = place / GATE if len(datasets) == 1 else place / GATE / dataset.task
        write_gate(report, target)
        found[dataset.task] = comparison(report, target)
    return found


def _suggest(session: Session, reports: Path, references: Path) -> None:
    """Which tasks are behind, the surest first."""
    from meduniseg_core.evaluation import read_reports, task_gaps

    ours, theirs = read_reports(reports), read_reports(references)
    gaps = task_gaps(ours, theirs)
    behind = [gap.task for gap in gaps if gap.under_performing]
    session.show(_table(gaps))
    one_sided = sorted(ours.keys() ^ theirs.keys())
    if one_sided:
        session.show(f"Only one side has: {', '.join(one_sided)}.")
    line = (
        f"Surely behind: {', '.join(behind)}; see 'meduniseg refine DATASET... --tasks {','.join(behind)} -o NAME'"
        if behind
        else "No task is surely behind"
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
