"""All runs of this machine, and the names that they use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meduniseg_core.adaptation.jobs import Job
from meduniseg_core.adaptation.run import Run, runs_folder
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.weights import PackRegistry, Registry


def begin(job: Job) -> Run:
    """Create a run for a job and start its process.

    Args:
        job: the job.

    Returns:
        The run.

    Raises:
        UsageError: a run, a model or a pack has its name already.
    """
    check_new_name(job.name)
    run = Run.create(job)
    run.start()
    return run


def runs(home: Path | None = None) -> list[Run]:
    """List all runs; folders without a readable run are skipped.

    Args:
        home: the user's data folder if not the default.

    Returns:
        The runs, newest first.
    """
    found = []
    for folder in runs_folder(home).glob("*"):
        try:
            found.append(Run.open(folder.name, home))
        except (BadInputError, UsageError):
            continue
    return sorted(found, key=lambda run: run.job.created, reverse=True)


def check_new_name(name: str) -> None:
    """Refuse a name that a model or pack has already, in any capitals: the new one could not be installed.

    Args:
        name: the name of a new run.

    Raises:
        UsageError: a model or pack is called so.
    """
    for store in (Registry(), PackRegistry()):
        for known in store.names():
            if known.casefold() == name.casefold():
                raise UsageError(f"There is a {store.noun} called '{known}' already; give the new one another name.")


def free_name(wanted: str, taken: Sequence[str], home: Path | None = None) -> str:
    """Find an unused name by appending a number: ``wanted-1``, ``wanted-2``, ...

    Args:
        wanted: the beginning of the name.
        taken: names that may not be used.
        home: the user's data folder if not the default.

    Returns:
        The first name that is neither a run's nor among ``taken``.
    """
    used = {*taken, *(run.job.name for run in runs(home))}
    number = 1
    while f"{wanted}-{number}" in used or (runs_folder(home) / f"{wanted}-{number}").exists():
        number += 1
    return f"{wanted}-{number}"
