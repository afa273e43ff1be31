"""The newest events of a run's process: JSON lines, among which a library may have printed text of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meduniseg_core.events import Progress
from meduniseg_core.files import writing_into
from meduniseg_core.structured_text import parse_json

_TAIL = 1 << 16  # bytes of the newest events that are looked at


def newest_events(path: Path) -> list[dict[str, Any]]:
    """Read the newest events since the process was last started.

    Args:
        path: the run's file of events.

    Returns:
        The events, oldest first; empty if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            event = parse_json(line)
        except ValueError:
            continue  # cut off, or a library's own words
        if isinstance(event, dict) and event.get("event") == "start":
            found = []  # what was said before is another process's affair
        elif isinstance(event, dict) and "event" in event:
            found.append(event)
    return found


def append_event(path: Path, event: dict[str, Any]) -> None:
    """Append an event on a line of its own, even if the last line was cut off.

    Args:
        path: the run's file of events.
        event: a JSON object.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    with writing_into(path.parent), path.open("ab") as stream:
        stream.write(b"\n" + json.dumps(event).encode() + b"\n")


def newest_progress(events: list[dict[str, Any]]) -> tuple[str, int, int, float | None] | None:
    """The newest progress among events.

    Args:
        events: oldest first.

    Returns:
        (stage, steps done, steps in total, seconds left or None); None if there is no progress yet.
    """
    for event in reversed(events):
        if event.get("event") == "progress":
            stage, done, total = str(event.get("stage", "")), int(event.get("done", 0)), int(event.get("total", 0))
            left = Progress(stage, done, total, float(event.get("seconds", 0.0))).remaining_seconds
            return stage, done, total, left
    return None
