"""Taking in checkpoints that other people published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import EventSink

if TYPE_CHECKING:
    from meduniseg_core.weights import Entry


def import_checkpoint(
    file: Path,
    name: str,
    plans: Path | None,
    spacing: tuple[float, float, float] | None,
    sha256: str | None,
    *,
    replace: bool,
    events: EventSink,
) -> Entry:
    """Convert a UniSeg checkpoint and keep it as the model ``name``; what had to be assumed is said in ``events``."""
    from meduniseg_core.files import sha256_of
    from meduniseg_core.weights import Registry, UniSegOptions, import_uniseg

    if not file.is_file():
        raise BadInputError(f"{file}: there is no such file; check the path.")
    found = sha256_of(file) if sha256 is not None else None
    if sha256 is not None and found != sha256.strip().lower():
        raise BadInputError(f"{file}: its sha256 is {found} and should be {sha256}; get the right file.")
    defaults = UniSegOptions()
    options = defaults.model_copy(update={"name": name, "spacing": spacing or defaults.spacing})
    imported = import_uniseg(file, plans, options, events=events)
    return Registry().save(imported.info, imported.state_dict, replace=replace)
