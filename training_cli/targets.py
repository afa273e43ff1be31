"""Where the results of ``segment`` go, and that nothing which belongs to something else is overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meduniseg_core.errors import UsageError

if TYPE_CHECKING:
    from meduniseg_core.images import Case


def target_folder(output: Path, task: str, task_count: int) -> Path:
    """``OUT_DIR`` for a single task, ``OUT_DIR/TASK`` where there are several."""
    return output if task_count == 1 else output / task


def chosen_ending(ending: str | None) -> str | None:
    """The ending of ``--format`` with its dot; UsageError where labels cannot be written so."""
    from meduniseg_core.images.writing import LABEL_ENDINGS

    if ending is None:
        return None
    dotted = "." + ending.lower().lstrip(".")
    if dotted not in LABEL_ENDINGS:
        known = ", ".join(known.lstrip(".") for known in LABEL_ENDINGS)
        raise UsageError(f"Labels cannot be written as '{ending}'; choose --format from {known}.")
    return dotted


def default_ending(is_2d: bool) -> str:
    """What is written without ``--format``: NIfTI for volumes, PNG for images of depth 1."""
    return ".png" if is_2d else ".nii.gz"


def refuse_strangers(cases: Iterable[Case], tasks: Sequence[str], output: Path, ending: str | None) -> None:
    """UsageError where a result would overwrite another task's result or a file that is not ours at all.

    A former result of the same case and task is replaced: that is what running a command again is for.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; give a folder for the results.")
    endings = [ending] if ending is not None else [default_ending(False), default_ending(True)]
    for task in tasks:
        folder = target_folder(output, task, len(tasks))
        for case in cases:
            record = folder / f"{case.name}.json"
            labels = [folder / f"{case.name}{candidate}" for candidate in endings]
            there = [path for path in (*labels, record) if path.exists()]
            if not there:
                continue
            owner = recorded_task(record)
            if owner is None:
                raise UsageError(
                    f"{there[0]} is there already and is no result of this program; choose another folder."
                )
            if owner != task:
                raise UsageError(
                    f"{there[0]} holds the result of task '{owner}'; choose another folder for task '{task}'."
                )


def recorded_task(record: Path) -> str | None:
    """The task in a provenance JSON that ``segment`` wrote, or None for any other file or none."""
    content = _content(record)
    if "model_sha256" not in content:
        return None
    task = content.get("task")
    return task if isinstance(task, str) else None


def was_edited(record: Path) -> bool:
    """Whether the JSON beside a result says that somebody has corrected it since."""
    return _content(record).get("edited") is True


def _content(record: Path) -> dict[str, Any]:
    """What the JSON holds; nothing where it cannot be read or is no object."""
    try:
        content = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
