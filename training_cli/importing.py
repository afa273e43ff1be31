"""``meduniseg models import``: installs model files, and models that were trained with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meduniseg_core.errors import UsageError
from training_cli.asset_commands import Replace, Sha256, entry_report
from training_cli.options import Json, ProgressOption, split_names
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.events import EventSink
    from meduniseg_core.weights import StoredAsset

NNUNET = "nnunet"
_UNISEG = "uniseg"


def import_model(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|nnunet", help="A model file, UniSeg's published checkpoint, or the word nnunet."),
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL_FOLDER]", help="nnunet only: the model folder TRAINER__PLANS__CONFIGURATION."),
    ] = None,
    sha256: Sha256 = None,
    replace: Replace = False,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the imported model: required for nnunet, not allowed for model files."),
    ] = None,
    plans: Annotated[
        Path | None,
        typer.Option(
            "--plans", metavar="PKL", help="UniSeg only: the plans (.model.pkl, plans.pkl). Default: FILE.pkl."
        ),
    ] = None,
    spacing: Annotated[
        tuple[float, float, float] | None,
        typer.Option("--spacing", metavar="D H W", help="UniSeg only: mm, if plans give none. Default: 3 1.5 1.5."),
    ] = None,
    planner_spacings: Annotated[
        bool,
        typer.Option(
            "--planner-spacings",
            help="UniSeg only: the spacings of UniSeg's own planners for vertebrae, brain and whole-body tumours.",
        ),
    ] = False,
    options: Annotated[
        Path | None,
        typer.Option(
            "--options",
            metavar="JSON",
            help='UniSeg only: file with other tasks and spacings than the published ones ("tasks", "task_spacings").',
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            metavar="0,1,...|all",
            help="nnunet only: folds to average. Default: all numbered folds. 'all' is fold_all if there is one.",
        ),
    ] = None,
    checkpoint: Annotated[
        Literal["final", "best"] | None,
        typer.Option("--checkpoint", help="nnunet only: checkpoint of each fold. Default: final."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TASK", help="nnunet only: name of the task. Default: by the data set."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", metavar="M", help="nnunet only: modality. Default: by the channels.")
    ] = None,
    any_trainer: Annotated[
        bool,
        typer.Option(
            "--any-trainer",
            help="nnunet only: accept a trainer that is not nnU-Net's own, if it trains the network in the plans.",
        ),
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Install a model from a model file, from UniSeg's checkpoint or from a model folder of nnU-Net v2."""
    of_uniseg = {"--plans": plans, "--spacing": spacing, "--planner-spacings": planner_spacings, "--options": options}
    of_nnunet = {
        "--folds": folds,
        "--checkpoint": checkpoint,
        "--task": task,
        "--modality": modality,
        "--any-trainer": any_trainer,
    }
    if source == NNUNET and folder is None and not Path(NNUNET).exists():
        raise UsageError("Name the model folder of nnU-Net, too: 'meduniseg models import nnunet FOLDER --name NAME'.")
    if source == NNUNET and folder is not None:
        _refuse({**of_uniseg, "--sha256": sha256}, "a model folder of nnU-Net")
        if name is None:
            raise UsageError("A model of nnU-Net needs a name; give --name.")
        chosen = {"folds": folds, "checkpoint": checkpoint, "task": task, "modality": modality}
        with work(progress, as_json=as_json) as session:
            entry = _import_nnunet(folder, name, chosen, any_trainer, replace, session.events)
            session.result(entry_report(entry), f"Imported {entry.name} ({entry.path}).")
        return
    if folder is not None:
        raise UsageError(
            f"'{source}' takes no second argument; give one file at a time, or say: import {NNUNET} MODEL_FOLDER."
        )
    if Path(source).is_dir():
        raise UsageError(f"{source} is a folder; of nnU-Net's model folders say: import {NNUNET} {source} --name NAME.")
    _refuse(of_nnunet, "a file (for nnU-Net say: import nnunet MODEL_FOLDER)")
    if Path(source).suffix == ".safetensors":
        _refuse({"--name": name, **of_uniseg}, "a model file, which says all that itself")
    with work(progress, as_json=as_json) as session:
        entry = _import_file(
            Path(source), name, sha256, plans, spacing, options, planner_spacings, replace, session.events
        )
        session.result(entry_report(entry), f"Imported {entry.name} ({entry.path}).")


def _refuse(options: dict[str, Any], what: str) -> None:
    for option, value in options.items():
        if value not in (None, False):
            raise UsageError(f"{option} is not for {what}; leave it out.")


def _import_file(
    file: Path,
    name: str | None,
    sha256: str | None,
    plans: Path | None,
    spacing: tuple[float, float, float] | None,
    options: Path | None,
    planner_spacings: bool,
    replace: bool,
    events: EventSink,
) -> StoredAsset:
    from meduniseg_core.weights import Registry
    from training_cli.checkpoints import import_checkpoint

    if file.suffix == ".safetensors":
        return Registry().import_file(file, sha256=sha256, replace=replace)
    return import_checkpoint(
        file,
        name or _UNISEG,
        plans,
        spacing,
        sha256,
        options_file=options,
        planner_spacings=planner_spacings,
        replace=replace,
        events=events,
    )


def _import_nnunet(
    folder: Path, name: str, chosen: dict[str, str | None], any_trainer: bool, replace: bool, events: EventSink
) -> StoredAsset:
    from meduniseg_core.catalog import find_modality
    from meduniseg_core.importers import NnunetOptions, import_nnunet
    from meduniseg_core.weights import Registry

    fields: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    if "folds" in fields:
        fields["folds"] = tuple(split_names(fields["folds"]))
        if not fields["folds"]:
            raise UsageError(f"--folds {chosen['folds']!r:.40} names no fold; give numbers such as 0,1,2 or all.")
    if "modality" in fields:
        fields["modality"] = find_modality(fields["modality"]).name
    imported = import_nnunet(folder, NnunetOptions(name=name, any_trainer=any_trainer, **fields), events=events)
    return Registry().save(imported.info, imported.state_dict, replace=replace)
