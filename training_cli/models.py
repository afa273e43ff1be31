"""``meduniseg models``: manages the installed models and shows the known architectures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli import calibrating, importing, packs, postprocessing
from training_cli.asset_commands import Overwrite, Replace, Sha256, entry_report, remove_named, verify_named
from training_cli.catalog import TASK_COLUMNS, task_row
from training_cli.commands import Commands
from training_cli.options import Json, ProgressOption, split_names
from training_cli.output import print_answer, print_json, print_table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.weights import ModelInfo

STAR = "meduniseg-star"  # the paper's network with its refinement

app = Commands(help="List, inspect, import, export, verify, install and remove models.", no_args_is_help=True)
app.add_typer(packs.app, name="packs")
app.command("import")(importing.import_model)
app.command("calibrate")(calibrating.calibrate)
app.command("postprocess")(postprocessing.postprocess)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name, as 'models list' shows it.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that come with the program or were installed."""
    from meduniseg_core.weights import Registry

    entries = Registry().list()
    if as_json:
        print_json({"models": [entry_report(entry) for entry in entries]})
        return
    if not entries:
        print("No model is installed; 'meduniseg models install FILE' or 'models import FILE' adds one.")
        return
    rows = [
        (
            entry.name,
            ", ".join(plan.task for plan in entry.info.tasks) if entry.info else f"unusable: {entry.problem}",
            f"{entry.size_bytes / 1e6:.1f} MB",
            "with the program" if entry.shipped else str(entry.path),
        )
        for entry in entries
    ]
    print_table(("model", "tasks", "size", "where"), rows)


@app.command()
def info(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="Name of a model, or a model file.")] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", metavar="A", help="Show this architecture instead of a model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model's tasks and origin, or the size of an architecture."""
    if (name is None) == (architecture is None):
        raise UsageError("Give either a model or --architecture; see 'meduniseg models info --help'.")
    if architecture is not None:
        _show_architecture(architecture, as_json)
        return
    from meduniseg_core.weights import find_model

    assert name is not None
    path, details = find_model(name)
    if as_json:
        print_json({"path": path, **details.model_dump(mode="json"), "parameters": _parameters(details)["total"]})
        return
    print(f"{details.name}: {details.title}" if details.title else details.name)
    print(details.description, details.intended_use, sep="\n" if details.description else "")
    print(f"file: {path}", f"parameters: {_parameters(details)['total']:,}", sep="\n")
    print(f"licence: {details.licence or 'not stated'}")
    print_table(TASK_COLUMNS, [task_row(plan) for plan in details.tasks])
    calibrated = [] if details.calibration is None else [entry.task for entry in details.calibration.tasks]
    print(f"calibrated for: {', '.join(calibrated) or 'no task; its results do not say how far to trust them'}")
    for key, value in details.provenance.items():
        if value is not None:
            print(f"{key}: {value}")


@app.command()
def export(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Folder or file to write.")] = Path(),
    pack: Annotated[
        str | None,
        typer.Option(
            "--pack",
            metavar="PACK",
            help="Merge this pack (name or file) into the copy, which then has only its tasks.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="TASK[,TASK...]", help="With --pack: keep only these of its tasks. Default: all."
        ),
    ] = None,
    replace: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a model to a file, to share it."""
    from meduniseg_core.weights import Registry

    if pack is not None:
        path = _export_merged(name, pack, task, output, replace)
    elif task is not None:
        raise UsageError("--task chooses among the tasks of a pack; give one with --pack.")
    else:
        path = Registry().export(name, output, replace=replace)
    print_answer(as_json, {"name": name, "path": path}, str(path))


@app.command()
def verify(name: Name, as_json: Json = False) -> None:
    """Check a model file against the SHA-256 recorded when it was installed."""
    from meduniseg_core.weights import Registry

    verify_named(Registry(), name, as_json)


@app.command()
def install(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_URL", help="A model file, or its https address.")],
    sha256: Sha256 = None,
    replace: Replace = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Install a model from a file, or from an https address with its SHA-256."""
    from meduniseg_core.weights import Registry

    with work(progress, as_json=as_json) as session:
        entry = Registry().install(source, sha256, replace=replace, events=session.events, cancel=session.cancel)
        session.result(entry_report(entry), f"Installed {entry.name} ({entry.path}).")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete an installed model."""
    from meduniseg_core.weights import Registry

    remove_named(Registry(), name, as_json)


def _export_merged(name: str, pack: str, task: str | None, output: Path, replace: bool) -> Path:
    from meduniseg_core.weights import load_model, save_model
    from meduniseg_core.weights.merged import merged_model

    details, state = merged_model(load_model(name), packs.load_pack(pack), split_names(task))
    path = output / f"{details.name}.safetensors" if output.is_dir() else output
    if os.path.lexists(path) and not replace:
        raise UsageError(f"{path} exists already; choose another name or remove it first.")
    save_model(path, details, state)
    return path


def _show_architecture(name: str, as_json: bool) -> None:
    from meduniseg_core.model import ARCHITECTURES, count_parameters

    if name not in ARCHITECTURES and name != STAR:
        known = ", ".join((*ARCHITECTURES, STAR))
        raise UsageError(f"There is no architecture '{name}'; there are: {known}.")
    parts = count_parameters(ARCHITECTURES["meduniseg" if name == STAR else name])
    total = parts.pop("total")
    added = _added_by_refinement() if name == STAR else {}
    total += sum(added.values())
    if as_json:
        extra = {"added": added, "added_parameters": sum(added.values())} if added else {}
        print_json({"architecture": name, "parameters": total, "by_part": parts, **extra})
        return
    parts.update({f"added: {kind}": count for kind, count in added.items()})
    rows = [*parts.items(), ("total", total)]
    print_table(("part", "parameters"), [(part, f"{count:,}") for part, count in rows], right=("parameters",))


def _added_by_refinement() -> dict[str, int]:
    """What MedUniSeg* adds to the paper's network, by kind (docs/spec.md section 8)."""
    import torch

    from meduniseg_core.model import ARCHITECTURES, MedUniSeg
    from meduniseg_core.model.lora import added_parameters

    with torch.device("meta"):
        return added_parameters(MedUniSeg(ARCHITECTURES["meduniseg"]))


def _parameters(details: ModelInfo) -> dict[str, int]:
    from meduniseg_core.model import count_parameters

    return count_parameters(details.config)
