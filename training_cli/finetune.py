"""``meduniseg finetune``: a model of one's own from a trained one and one data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError
from training_cli.listed import comparison, is_begun, request_of, taken_up
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.session import Session, resumable, work

if TYPE_CHECKING:
    from meduniseg_core.adaptation.runs import Run
    from meduniseg_core.weights import Model


def finetune(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder in nnU-Net's raw layout, or a ledger of corrections.")
    ],
    name: Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="The new model's name.")],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model to start from.")] = "starter",
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations", min=1, help="Iterations, rounded up to epochs of 50. Default: the paper's 25,000."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Adapt to a few corrected cases: 300 iterations, mostly on what was changed."),
    ] = False,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Modality of the base to start from. Default: the data set's.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="CASE", help="Case to leave out. Repeatable."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder of the run. Default: in the user's data folder."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split, the order and the augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the training: make a model of its best checkpoint so far.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Compare the new model with its base on the validation cases.")
    ] = True,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Fine-tune a trained model on one data set, and compare both on held-back cases.

    The encoder, the decoder and the modal prompt are kept. 'meduniseg runs adopt NAME' puts the new model into use.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.finetune import finetune as run_finetuning
        from meduniseg_core.adaptation.finetune import finetune_config
        from meduniseg_core.adaptation.runs import runs_folder
        from meduniseg_core.weights import load_model

        model = load_model(base)
        place = folder if folder is not None else runs_folder() / name
        config = finetune_config(
            dataset,
            model,
            name,
            place,
            iterations=iterations,
            quick=quick,
            seed=seed,
            device=device,
            precision=precision,
            overrides={"leave_out": tuple(leave_out or ())},
        )
        budget = (
            *(("--iterations", str(iterations)) if iterations is not None else ()),
            *(("--quick",) if quick else ()),
        )
        going_on = resume or finish
        run = (
            _run(dataset, name, base, budget, modality, leave_out, seed, device, precision, going_on)
            if folder is None
            else None
        )
        with resumable(config.output):
            result = run_finetuning(
                dataset,
                model,
                config,
                modality=modality,
                resume=resume,
                finish=finish,
                events=session.events,
                cancel=session.cancel,
            )
        dice = "" if result.best_dice is None else f", best validation Dice {result.best_dice:.3f}"
        lines = [f"{result.model}{dice}, {result.seconds / 60:.1f} min"]
        answer = dataclasses.asdict(result)
        if run is None:
            lines.append("'meduniseg models import' makes it a model by name")
        elif compare:
            answer["gate"] = gate = _judge(session, run, model, device, precision)
            lines.append(f"{gate['reason']} {gate['bias']}".strip() + f" ({gate['html']})")
        if run is not None:
            run.answered(answer)
            lines.append(f"'meduniseg runs adopt {name}' takes it into use")
        session.result(answer, *lines)


def _run(
    dataset: Path,
    name: str,
    base: str,
    budget: tuple[str, ...],
    modality: str | None,
    leave_out: list[str] | None,
    seed: int,
    device: str,
    precision: str,
    going_on: bool,
) -> Run:
    """This training as one of the listed runs."""
    from meduniseg_core.adaptation.runs import check_new_name, runs_folder

    options = [
        *(*budget, "--seed", str(seed), "--device", device, "--precision", precision),
        *(("--modality", modality) if modality is not None else ()),
        *(word for case in leave_out or () for word in ("--leave-out", case)),
    ]
    request = request_of("finetune", dataset, name, base, options)
    if not is_begun(name):
        if going_on:
            raise BadInputError(
                f"{runs_folder() / name}: there is no checkpoint to resume from; start it without --resume."
            )
        check_new_name(name)
    return taken_up(request, going_on)


def _judge(session: Session, run: Run, base: Model, device: str, precision: str) -> dict[str, Any]:
    from meduniseg_core.adaptation.judging import GATE, judge

    report = judge(run, base, device=device, precision=precision, events=session.events, cancel=session.cancel)
    return comparison(report, run.folder / GATE)
