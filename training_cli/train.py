"""``meduniseg train``: universal training by a TOML configuration, in one process or under ``torchrun``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.explaining import explain_error, show_traceback
from training_cli.options import Json, ProgressOption
from training_cli.output import print_error
from training_cli.progress import ProgressMode
from training_cli.session import Session, repeatable, resumable, work

if TYPE_CHECKING:
    from meduniseg_core.training import TrainingConfig
    from meduniseg_core.training.group import Group


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="The configuration: data sets, network and schedule.")
    ],
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="FILE",
            help="Start from what fits of trained weights: of a model, nnU-Net v2, UniSeg, or MONAI's SegResNet, "
            "SwinUNETR or UNETR. With --resume give it again.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            metavar="N|all",
            help="Of a cross-validation (five folds, or the configuration's): train fold N, or all of them and measure "
            "each on the cases that it did not see. What is done already is not done again.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint.")] = False,
    only_changed: Annotated[
        bool,
        typer.Option(
            "--only-changed",
            help="Do what is not done yet: nothing where the model is that of these settings and data; else continue, "
            "or begin anew where they changed. Files with the size and times of the last run are not read again.",
        ),
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Train one network on the tasks of one or more data sets.

    Under torchrun several processes train together what one would. SIGUSR1, or SIGTERM in a job of SLURM, saves the
    run and ends it with exit code 75: --resume goes on.
    """
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    in_slurm = "SLURM_JOB_ID" in os.environ
    if size != "1":  # torch would add hundreds of lines to the one sentence about a lost process
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    quiet: ProgressMode = progress if rank == "0" or size == "1" else "none"
    with (
        work(quiet, as_json=as_json, requeue=_requeue_signals(in_slurm), patient=in_slurm or size != "1") as session,
        _together(progress == "json") as group,
    ):
        from meduniseg_core.training import TrainingConfig
        from meduniseg_core.training import train as run_training
        from meduniseg_core.training.cross_validation import fold_config

        if resume and only_changed:
            raise UsageError("--only-changed goes on where a run was broken off; leave --resume out.")
        settings = TrainingConfig.from_toml(config, init=init)
        if fold == "all":
            with repeatable():
                _all_folds(settings, session)
            return
        if fold is not None:
            settings = fold_config(settings, _number(fold))
        with resumable(settings.output):
            result = run_training(
                settings,
                resume=resume,
                only_changed=only_changed,
                events=session.events,
                cancel=session.cancel,
                group=group,
            )
        best = (
            ""
            if result.best_dice is None
            else f", best validation Dice {result.best_dice:.3f} in epoch {result.best_epoch}"
        )
        early = " (stopped early)" if result.stopped_early else ""
        line = f"{result.model}: {result.epochs} epochs{early} in {result.seconds / 60:.1f} min{best}"
        if group.leads:
            session.result(dataclasses.asdict(result), line)


def _number(fold: str) -> int:
    if not fold.isdecimal():
        raise UsageError(f"--fold is a number or 'all', not '{fold}'.")
    return int(fold)


def _all_folds(settings: TrainingConfig, session: Session) -> None:
    from meduniseg_core.training.cross_validation import REPORTS, cross_validate

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("--fold all is for one process; under torchrun train the folds one by one with --fold N.")
    done = cross_validate(settings, events=session.events, cancel=session.cancel)
    dice = {task: report.dice.mean for task, report in done.reports.items()}
    lines = [f"{task}: mean Dice {value:.4f} over all folds" for task, value in dice.items() if value is not None]
    payload = {"models": done.models, "reports": settings.output / REPORTS, "dice": dice}
    session.result(payload, *lines, str(settings.output / REPORTS))


def _requeue_signals(in_slurm: bool) -> tuple[signal.Signals, ...]:
    names = ("SIGUSR1", *(("SIGTERM",) if in_slurm else ()))
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


@contextlib.contextmanager
def _together(json_events: bool) -> Iterator[Group]:
    """The processes that a launcher started; of what goes wrong in several of them one sentence is printed."""
    from meduniseg_core.training.group import ALONE
    from meduniseg_core.training.place import place_in_environment

    place = place_in_environment()
    if place is None:
        yield ALONE
        return
    from meduniseg_core.training.processes import Joined  # late: not every build of torch has them

    def end(sentence: str, code: int) -> None:
        if sentence:
            print_error(sentence, code, as_json=json_events)
        os._exit(code or 1)  # the main thread may wait for the lost process for ever

    with Joined(place, end) as group:
        try:
            yield group
        except (Exception, KeyboardInterrupt) as error:
            sentence, code = explain_error(error)
            if group.failed(sentence, code):
                raise
            show_traceback(error)
            raise typer.Exit(code) from error
