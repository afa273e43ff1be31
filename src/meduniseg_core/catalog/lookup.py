"""Loading the catalogue, and finding its entries by name, alias or title."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

from meduniseg_core.catalog.entries import Modality, Task
from meduniseg_core.errors import UsageError

_Entry = TypeVar("_Entry", Modality, Task)


def load_tables(file: str, key: str) -> list[dict[str, Any]]:
    """Load tables of the catalogue's data.

    Args:
        file: a TOML file of this package.
        key: the name of its array of tables.

    Returns:
        The tables.
    """
    text = files("meduniseg_core.catalog").joinpath(file).read_text("utf-8")
    tables: list[dict[str, Any]] = tomllib.loads(text)[key]
    return tables


def _by_name(entries: Iterable[_Entry]) -> Mapping[str, _Entry]:
    return MappingProxyType({entry.name: entry for entry in entries})


# In the order of the modal prompts.
MODALITIES: Mapping[str, Modality] = _by_name(
    Modality.model_validate(t) for t in load_tables("modalities.toml", "modality")
)
# The 17 upstream tasks in the paper's order, then the 6 downstream ones.
TASKS: Mapping[str, Task] = _by_name(
    Task.model_validate(table) for file in ("upstream.toml", "downstream.toml") for table in load_tables(file, "task")
)
UPSTREAM: tuple[Task, ...] = tuple(task for task in TASKS.values() if task.stage == "upstream")
DOWNSTREAM: tuple[Task, ...] = tuple(task for task in TASKS.values() if task.stage == "downstream")


def find_modality(name: str) -> Modality:
    """Find a modality by key, title or alias ("mr", "X-ray"), in any case.

    Args:
        name: as a user writes it.

    Returns:
        The modality.

    Raises:
        UsageError: there is none of that name.
    """
    return MODALITIES[_find(name, _spellings(MODALITIES.values()), "modality", list(MODALITIES))]


def find_task(name: str) -> Task:
    """Find one of the paper's tasks by key, title, data set or alias, in any case.

    Args:
        name: as a user writes it.

    Returns:
        The task.

    Raises:
        UsageError: there is none of that name.
    """
    spellings = _spellings(TASKS.values()) | {_plain(task.dataset): task.name for task in TASKS.values()}
    return TASKS[_find(name, spellings, "task", list(TASKS))]


def _spellings(entries: Iterable[Modality] | Iterable[Task]) -> dict[str, str]:
    """Every accepted spelling, simplified, and the key it stands for; keys take precedence over aliases."""
    aliases: dict[str, str] = {}
    names: dict[str, str] = {}
    for entry in entries:
        aliases |= {_plain(word): entry.name for word in (entry.title, *entry.aliases)}
        names[_plain(entry.name)] = entry.name
    return aliases | names


def _find(name: str, spellings: dict[str, str], what: str, known: list[str]) -> str:
    plain = _plain(name)
    if plain in spellings:
        return spellings[plain]
    close = difflib.get_close_matches(plain, spellings, n=1, cutoff=0.6)
    hint = f"did you mean '{spellings[close[0]]}'?" if close else f"there are: {', '.join(known)}."
    raise UsageError(f"There is no {what} '{name}' in the catalogue; {hint}")


def _plain(name: str) -> str:
    """Lower case, and one kind of separator."""
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())
