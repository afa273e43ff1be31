"""Which model is in use for a task: adopting one is a line more, rolling back a line less.

``adopted.json`` in the user's data folder holds for every task the models that were adopted, the newest last. The
models themselves stay in the registry, so that a step back needs nothing but this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import remove_orphans, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.weights import Registry

_LOCK_SECONDS = 30.0


class Adopted(BaseModel):
    """One model taken into use for a task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    sha256: str
    base: str
    when: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tasks: dict[str, tuple[Adopted, ...]] = {}


class Adoptions:
    """The models in use. Any number of processes may change them."""

    def __init__(self, home: Path | None = None) -> None:
        self._path = (home if home is not None else user_folder()) / "adopted.json"

    def of(self, task: str) -> tuple[Adopted, ...]:
        """What was adopted for a task, the newest last; models that were removed since are left out."""
        return self._usable().get(task, ())

    def current(self, task: str) -> str | None:
        """The model in use for a task; None where none was adopted."""
        adopted = self.of(task)
        return adopted[-1].model if adopted else None

    def all(self) -> dict[str, str]:
        """The model in use for every task that has one."""
        return {task: adopted[-1].model for task, adopted in self._usable().items()}

    def gone(self) -> dict[str, str]:
        """Task -> the model adopted last, where that is not installed any more, or is another file now."""
        newest = {task: adopted[-1] for task, adopted in self._read().tasks.items() if adopted}
        usable = self._usable()
        return {task: last.model for task, last in newest.items() if last not in usable.get(task, ())}

    def adopt(self, task: str, model: str, base: str) -> None:
        """Take a model of the registry into use. UsageError where it cannot do the task."""
        info = Registry().info(model)
        if task not in [plan.task for plan in info.tasks]:
            raise UsageError(f"Model {model} has no task '{task}'; it has: {', '.join(p.task for p in info.tasks)}.")
        entry = Adopted(model=model, sha256=Registry().verify(model).sha256, base=base, when=datetime.now(UTC))
        with self._changing() as tasks:
            tasks[task] = (*(known for known in tasks.get(task, ()) if known.model != model), entry)

    def roll_back(self, task: str, expected: str | None = None) -> tuple[str, str | None]:
        """Take the newest model for a task out of use; (that one, the one in use from now on or None).

        The model stays installed. UsageError where none is in use, or another one than ``expected``.
        """
        with self._changing() as tasks:
            adopted = self.of(task)
            if not adopted or expected not in (None, adopted[-1].model):
                name = f"'{expected}'" if expected is not None else "No model"
                raise UsageError(f"{name} is not in use for the task '{task}'; there is nothing to roll back.")
            tasks[task] = adopted[:-1]
        return adopted[-1].model, adopted[-2].model if len(adopted) > 1 else None

    def _usable(self) -> dict[str, tuple[Adopted, ...]]:
        """By task, without the models that are not installed any more; tasks that have none left are absent."""
        tasks = self._read().tasks
        registry = Registry()
        there = {entry.name: registry.recorded(entry.name) for entry in registry.list()} if tasks else {}
        kept = {
            task: tuple(entry for entry in adopted if there.get(entry.model) == entry.sha256)
            for task, adopted in tasks.items()
        }
        return {task: adopted for task, adopted in kept.items() if adopted}

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _File()
        except (OSError, ValidationError) as error:
            raise BadInputError(f"{self._path}: cannot be read; delete it to begin with no adopted model.") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, tuple[Adopted, ...]]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._path.with_suffix(".lock"), timeout=_LOCK_SECONDS):
                tasks = dict(self._read().tasks)
                yield tasks
                remove_orphans(self._path.parent)
                write_text(self._path, _File(tasks=tasks).model_dump_json(indent=1))
        except Timeout as error:
            raise BadInputError(f"{self._path}: another process has been changing it; try again.") from error
