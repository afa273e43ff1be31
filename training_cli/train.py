"""``meduniseg train``: universal training by a TOML configuration."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.options import Json, ProgressOption
from training_cli.session import resumable, work


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="The configuration: data sets, network and schedule.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Train one network on the tasks of one or more data sets."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # every process would write the same run
        raise UsageError("Training runs in one process so far; start it without torchrun.")
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.training import TrainingConfig
        from meduniseg_core.training import train as run_training

        settings = TrainingConfig.from_toml(config)
        with resumable(settings.output):
            result = run_training(settings, resume=resume, events=session.events, cancel=session.cancel)
        best = (
            ""
            if result.best_dice is None
            else f", best validation Dice {result.best_dice:.3f} in epoch {result.best_epoch}"
        )
        early = " (stopped early)" if result.stopped_early else ""
        line = f"{result.model}: {result.epochs} epochs{early} in {result.seconds / 60:.1f} min{best}"
        session.result(dataclasses.asdict(result), line)
