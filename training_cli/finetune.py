"""``meduniseg finetune``: trains a new model from a trained one and one data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training_cli.job_results import carry_out, into_use, show_result
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.session import work


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
        typer.Option(
            "--quick", help="Adapt to a few corrected cases: 300 iterations, mostly where labels were changed."
        ),
    ] = False,
    modality: Annotated[
        str | None,
        typer.Option("--modality", help="Which of the base's modalities to start from. Default: the data set's."),
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
        from meduniseg_core.adaptation.jobs import finetune_job
        from meduniseg_core.adaptation.run import runs_folder
        from meduniseg_core.weights import load_model

        model = load_model(base)
        listed = folder is None
        place = folder if folder is not None else runs_folder() / name
        job = finetune_job(
            dataset,
            name,
            base,
            iterations=iterations,
            quick=quick,
            modality=modality,
            leave_out=tuple(leave_out or ()),
            seed=seed,
            device=device,
            precision=precision,
            compare=compare and listed,
        )
        result = carry_out(session, job, model, place, listed=listed, resume=resume, finish=finish)
        if listed:
            show_result(session, job, result, into_use(result, f"meduniseg runs adopt {name}"))
        else:
            show_result(session, job, result, f"'meduniseg models import {result.file}' installs it")
