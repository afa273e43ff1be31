"""Converts published checkpoints to models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink

if TYPE_CHECKING:
    from meduniseg_core.importers.uniseg import UniSegOptions
    from meduniseg_core.weights import StoredAsset


def import_checkpoint(
    file: Path,
    name: str,
    plans: Path | None,
    spacing: tuple[float, float, float] | None,
    sha256: str | None,
    *,
    options_file: Path | None = None,
    planner_spacings: bool = False,
    replace: bool,
    events: EventSink,
) -> StoredAsset:
    """Convert a UniSeg checkpoint and install it as the model ``name``; ``events`` receives what was assumed."""
    from meduniseg_core.files import check_regular, sha256_of
    from meduniseg_core.importers.uniseg import PLANNER_SPACINGS, UniSegOptions, import_uniseg
    from meduniseg_core.weights import Registry

    check_regular(file)
    found = sha256_of(file) if sha256 is not None else None
    if sha256 is not None and found != sha256.strip().lower():
        raise BadInputError(f"{file}: its sha256 is {found} and should be {sha256}; get the right file.")
    options = UniSegOptions() if options_file is None else _read_options(options_file)
    changes: dict[str, object] = {"name": name}
    if spacing is not None:
        changes["spacing"] = spacing
    if planner_spacings:
        changes["task_spacings"] = {**PLANNER_SPACINGS, **options.task_spacings}
    options = options.model_copy(update=changes)
    imported = import_uniseg(file, plans, options, events=events)
    return Registry().save(imported.info, imported.state_dict, replace=replace)


def _read_options(path: Path) -> UniSegOptions:
    """Read ``UniSegOptions`` from a JSON file."""
    from pydantic import ValidationError

    from meduniseg_core.files import read_small
    from meduniseg_core.importers.uniseg import UniSegOptions
    from meduniseg_core.validation import first_fault

    try:
        return UniSegOptions.model_validate_json(read_small(path))
    except ValidationError as error:
        raise UsageError(f"{path}: {first_fault(error)}; correct the file.") from error
