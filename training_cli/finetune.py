"""``meduniseg finetune``: a model of one's own from a trained one and one data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.session import resumable, work


def finetune(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder in nnU-Net raw layout, or a ledger of corrections.")
    ],
    name: Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="The new model's name.")],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model to start from.")] = "starter",
    iterations: Annotated[
        int, typer.Option("--iterations", min=1, help="Rounded up to epochs of 50; the paper takes 25,000.")
    ] = 25_000,
    modality: Annotated[
        str | None, typer.Option("--modality", help="The base's modality to start from; default: the data set's.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the run is kept; default: in the user's data folder.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides split, order and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Fine-tune a trained model on one data set; encoder, decoder and modal prompt are taken over."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.finetune import finetune as run_finetuning
        from meduniseg_core.adaptation.finetune import finetune_config
        from meduniseg_core.paths import user_folder
        from meduniseg_core.weights import load_model

        model = load_model(base)
        run = folder if folder is not None else user_folder() / "runs" / name
        config = finetune_config(
            dataset, model, name, run, iterations=iterations, seed=seed, device=device, precision=precision
        )
        with resumable(config.output):
            result = run_finetuning(
                dataset, model, config, modality=modality, resume=resume, events=session.events, cancel=session.cancel
            )
        dice = "" if result.best_dice is None else f", best validation Dice {result.best_dice:.3f}"
        line = (
            f"{result.model}{dice}, {result.seconds / 60:.1f} min; 'meduniseg models import' makes it a model by name"
        )
        session.result(dataclasses.asdict(result), line)
