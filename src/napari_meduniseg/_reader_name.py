"""The reader's name, stored with accepted corrections and remembered for the next session. Knows no Qt."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from meduniseg_core.corrections import user_logged_in
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.files import read_small, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.structured_text import json_text, parse_json

_LONGEST = 80  # characters


def reader_name() -> str:
    """The name given last, else that of the user who is logged in; empty if neither is known."""
    try:
        found = parse_json(read_small(_file()))
    except (OSError, ValueError, MedUniSegError):
        found = None
    name = found.get("reader") if isinstance(found, dict) else None
    return name[:_LONGEST] if isinstance(name, str) and name.isprintable() else user_logged_in() or ""


def remember_reader(name: str) -> None:
    """Remember a name; an empty one restores the name of the user who is logged in."""
    with suppress(OSError, MedUniSegError):  # a convenience: nothing else is lost
        if name.strip():
            _file().parent.mkdir(parents=True, exist_ok=True)
            write_text(_file(), json_text({"reader": name.strip()[:_LONGEST]}))
        else:
            _file().unlink(missing_ok=True)


def _file() -> Path:
    return user_folder() / "reader.json"
