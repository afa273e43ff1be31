"""``meduniseg models packs``: manages packs, which refine some tasks of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import UsageError
from meduniseg_core.paths import expanded
from training_cli.asset_commands import Overwrite, Replace, Sha256, remove_named, verify_named
from training_cli.commands import Commands
from training_cli.options import Json, ProgressOption, split_names
from training_cli.output import print_answer, print_json, print_table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.weights import Model, Pack, PackInfo, PackRegistry
    from meduniseg_core.weights.store import StoredAsset

app = Commands(
    help="Manage packs, each of which refines some tasks of one model.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A pack's name, as 'models packs list' shows it.")]
Tasks = Annotated[
    str | None, typer.Option("--task", "-t", metavar="TASK[,TASK...]", help="Only these of its tasks. Default: all.")
]


@app.command("list")
def list_packs(as_json: Json = False) -> None:
    """List the installed packs and the tasks that each is in use for."""
    from meduniseg_core.weights import PackRegistry

    registry = PackRegistry()
    entries = registry.list()
    if as_json:
        print_json({"packs": [pack_report(entry, registry) for entry in entries]})
        return
    if not entries:
        print("No pack is installed; 'meduniseg refine' makes one, 'meduniseg models packs install FILE' adds one.")
        return
    rows = [
        (
            entry.name,
            entry.info.base if entry.info else "-",
            ", ".join(entry.info.tasks) if entry.info else f"unusable: {entry.problem}",
            ", ".join(registry.in_use_for(entry.name)) or "-",
            f"{entry.size_bytes / 1e6:.1f} MB",
        )
        for entry in entries
    ]
    print_table(("pack", "base", "tasks", "in use for", "size"), rows)


@app.command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a pack, or a pack's file.")],
    as_json: Json = False,
) -> None:
    """Show a pack's tasks, base and origin."""
    from meduniseg_core.weights import PackRegistry, read_pack_info

    path = expanded(name) if _is_file(name) else PackRegistry().find(name).path
    details = read_pack_info(path)
    if as_json:
        print_json({"path": path, **details.model_dump(mode="json")})
        return
    print(f"{details.name}: {details.title}" if details.title else details.name)
    print(
        f"refines: {', '.join(details.tasks)} of {details.base} (sha256 {details.base_sha256})",
        f"file: {path}",
        sep="\n",
    )
    print(f"rank: {details.rank}, alpha: {details.alpha:g}", f"licence: {details.licence or 'not stated'}", sep="\n")
    for key, value in details.provenance.items():
        if value is not None:
            print(f"{key}: {value}")


@app.command()
def install(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_URL", help="A pack's file, or its https address.")],
    sha256: Sha256 = None,
    replace: Replace = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Install a pack from a file, or from an https address with its SHA-256. 'activate' puts it into use."""
    from meduniseg_core.weights import PackRegistry

    with work(progress, as_json=as_json) as session:
        entry = PackRegistry().install(source, sha256, replace=replace, events=session.events, cancel=session.cancel)
        session.result(pack_report(entry, PackRegistry()), f"Installed {entry.name} ({entry.path}).")


@app.command()
def verify(name: Name, as_json: Json = False) -> None:
    """Check a pack against the SHA-256 recorded when it was installed."""
    from meduniseg_core.weights import PackRegistry

    verify_named(PackRegistry(), name, as_json)


@app.command()
def export(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Folder or file to write.")] = Path(),
    replace: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a pack to a file, to share it with others who have its base."""
    from meduniseg_core.weights import PackRegistry

    path = PackRegistry().export(name, output, replace=replace)
    print_answer(as_json, {"name": name, "path": path}, str(path))


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete a pack; what was in use before it is used again."""
    from meduniseg_core.weights import PackRegistry

    remove_named(PackRegistry(), name, as_json)


@app.command()
def activate(
    name: Name,
    task: Tasks = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Use the pack even if the comparison with its base found it worse.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a pack into use, instead of any other pack or adopted model for the same tasks."""
    from meduniseg_core.adaptation.decisions import activate_pack

    tasks = activate_pack(name, split_names(task), anyway=anyway)
    print_answer(as_json, {"name": name, "in_use_for": tasks}, f"{name} is in use for {', '.join(tasks)}.")


@app.command()
def deactivate(name: Name, task: Tasks = None, as_json: Json = False) -> None:
    """Take a pack out of use; what was in use before it, or the model alone, is used again."""
    from meduniseg_core.weights import ActiveModels, PackRegistry

    stopped = PackRegistry().deactivate(name, split_names(task))
    now = {own: used for own, used in ActiveModels().all().items() if own in stopped}
    again = "".join(f" {used} is in use again for {own}." for own, used in now.items())
    print_answer(
        as_json,
        {"name": name, "stopped": list(stopped), "in_use": now},
        f"{name} is no longer in use for {', '.join(stopped)}.{again}",
    )


def pack_report(entry: StoredAsset[PackInfo], registry: PackRegistry) -> dict[str, Any]:
    """One pack of the registry as plain data."""
    return {
        "name": entry.name,
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "problem": entry.problem,
        "base": entry.info.base if entry.info else None,
        "base_sha256": entry.info.base_sha256 if entry.info else None,
        "tasks": list(entry.info.tasks) if entry.info else [],
        "in_use_for": list(registry.in_use_for(entry.name)),
    }


def packs_for(model: Model, tasks: list[str], names: list[str] | None, none: bool) -> dict[str, Pack]:
    """Task -> pack for ``tasks``: those in use, those of ``--pack`` (and no others), or with ``--no-packs`` none."""
    from meduniseg_core.weights import PackRegistry

    if none and names:
        raise UsageError("--pack and --no-packs exclude each other; give one of them.")
    if none:
        return {}
    if not names:
        return PackRegistry().active_packs(model, tasks)
    chosen: dict[str, Pack] = {}
    for pack in map(load_pack, names):
        pack.check_base(model)
        fitting = [task for task in pack.info.tasks if task in tasks]
        if not fitting:
            raise UsageError(
                f"Pack {pack.info.name} refines {', '.join(pack.info.tasks)}, and the tasks are {', '.join(tasks)}; "
                "leave the pack out or name one of its tasks."
            )
        for task in fitting:
            if task in chosen:
                raise UsageError(f"Two packs refine the task '{task}'; give one of them.")
            chosen[task] = pack
    return chosen


def load_pack(name: str) -> Pack:
    """A pack by name, or from its file."""
    from meduniseg_core.weights import PackRegistry, read_pack

    return read_pack(expanded(name)) if _is_file(name) else PackRegistry().load(name)


def _is_file(name: str) -> bool:
    path = Path(name)
    return path.suffix == ".safetensors" or path.name != name
