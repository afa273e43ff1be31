"""Commands that models and packs share: both are files in a store, known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from training_cli.output import print_answer

if TYPE_CHECKING:
    from meduniseg_core.weights import StoredAsset
    from meduniseg_core.weights.store import AssetStore

Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="H", help="Expected SHA-256 of the file.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace an installed one of the same name.")]
Overwrite = Annotated[bool, typer.Option("--replace", help="Overwrite an existing file.")]


def verify_named(store: AssetStore[Any, Any], name: str, as_json: bool) -> None:
    """Read a whole file and report whether it has the SHA-256 recorded at its installation."""
    found = store.verify(name)
    note = "as installed" if found.recorded else "readable; no SHA-256 was recorded to compare it with"
    payload = {"name": name, "sha256": found.sha256, "recorded": found.recorded}
    print_answer(as_json, payload, f"{name}: {note} (sha256 {found.sha256})")


def remove_named(store: AssetStore[Any, Any], name: str, as_json: bool) -> None:
    """Delete a file and report it."""
    store.remove(name)
    print_answer(as_json, {"removed": name}, f"Removed {name}.")


def entry_report(entry: StoredAsset) -> dict[str, Any]:
    """One model of the registry as plain data."""
    return {
        "name": entry.name,
        "path": entry.path,
        "shipped": entry.shipped,
        "size_bytes": entry.size_bytes,
        "problem": entry.problem,
        "title": entry.info.title if entry.info else None,
        "tasks": [plan.task for plan in entry.info.tasks] if entry.info else [],
        "modalities": list(entry.info.modalities) if entry.info else [],
    }
