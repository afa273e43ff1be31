"""Records which model or pack is in use for each task: an adopted model, or a pack with its base; at most one per task.

``adopted.json`` in the user's data folder holds the history of each task, the newest entry last. Putting something into
use adds an entry, rolling back removes one. The models and packs themselves stay in their stores, so a roll-back needs
only this file. Earlier versions kept active packs in a file of their own, ``packs/active.json``, which is read until
something changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import read_small, remove_orphans, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.weights.load import DEFAULT_MODEL
from meduniseg_core.weights.registry import Registry

_LOCK_SECONDS = 30.0
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class InUse(BaseModel):
    """A model or pack that was put into use for a task.

    ``model`` is its name, ``base`` the name of its base. For a pack ``base_sha256`` is the sha256 of its base's file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["model", "pack"] = "model"
    model: str
    sha256: str = ""
    base: str
    base_sha256: str = ""
    when: AwareDatetime

    def is_same(self, other: InUse) -> bool:
        """Whether two entries name the same model or pack.

        Args:
            other: another entry.

        Returns:
            True if kind and name are equal.
        """
        return (self.kind, self.model) == (other.kind, other.model)


History = Mapping[str, tuple[InUse, ...]]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tasks: dict[str, tuple[InUse, ...]] = {}


class _FormerPacks(BaseModel):
    """``packs/active.json`` of earlier versions: sha256 of a base -> task -> name of the active pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: dict[str, dict[str, str]] = Field(default={})


class ActiveModels:
    """The models and packs in use, by task. Any number of processes may change them.

    Args:
        home: the user's data folder if not the default.
    """

    def __init__(self, home: Path | None = None) -> None:
        folder = home if home is not None else user_folder()
        self._path = folder / "adopted.json"
        self._former = folder / "packs" / "active.json"
        self._models = Registry(folder / "models") if home is not None else Registry()

    def entries(self) -> dict[str, InUse]:
        """What is in use, for all tasks that have something in use.

        Returns:
            The newest entry of each task.

        Raises:
            BadInputError: the file of the record is damaged.
        """
        history = self._read()
        usable = {task: self._usable(history, task) for task in history}
        return {task: found[-1] for task, found in usable.items() if found}

    def all(self) -> dict[str, str]:
        """The names of what is in use, for all tasks that have something in use.

        Returns:
            The name of a model or pack for each task.
        """
        return {task: entry.model for task, entry in self.entries().items()}

    def gone(self) -> dict[str, str]:
        """Models that should be in use but are no longer installed.

        Returns:
            For each such task the name of the model that was removed or replaced by another file.
        """
        history = self._read()
        newest = {task: entries[-1] for task, entries in history.items() if entries}
        return {task: last.model for task, last in newest.items() if last not in self._usable(history, task)}

    def models(self) -> dict[str, str]:
        """The installed model to load for each task that has something in use: an adopted model, or a pack's base.

        Returns:
            The model's name for each task. Tasks of packs whose base is not installed are absent.
        """
        found = {task: self.served_by(entry) for task, entry in self.entries().items()}
        return {task: model for task, model in found.items() if model is not None}

    def served_by(self, entry: InUse) -> str | None:
        """The installed model to load for an entry.

        Args:
            entry: a model or a pack.

        Returns:
            The model's own name, or the name of the pack's base; None if the base is not installed.
        """
        if entry.kind == "model":
            return entry.model
        name = self._recorded_name(entry.base_sha256)
        return None if name == entry.base_sha256 else name

    def adopt(self, task: str, model: str, base: str) -> None:
        """Put an installed model into use for a task.

        Args:
            task: the task's name.
            model: the model's name.
            base: the name of the model it was trained from.

        Raises:
            UsageError: the model is not installed, or does not have the task.
            BadInputError: its file is damaged.
        """
        info = self._models.info(model)
        if task not in [plan.task for plan in info.tasks]:
            raise UsageError(f"Model {model} has no task '{task}'; it has: {', '.join(p.task for p in info.tasks)}.")
        # what was just installed was read whole for its record; a shipped model has none
        sha256 = self._models.recorded(model) or self._models.verify(model).sha256
        self.take([task], InUse(model=model, sha256=sha256, base=base, when=datetime.now(UTC)))

    def take(self, tasks: Sequence[str], entry: InUse) -> None:
        """Put a model or pack into use without checking it.

        Args:
            tasks: the tasks it is used for from now on.
            entry: the model or pack.

        Raises:
            BadInputError: the file of the record is damaged, or another process keeps it locked.
        """
        with self._changing() as history:
            for task in tasks:
                before = history.get(task, ())
                history[task] = (*(known for known in before if not known.is_same(entry)), entry)

    def stop(self, name: str, kind: Literal["model", "pack"], tasks: Sequence[str] | None = None) -> tuple[str, ...]:
        """Take a model or pack out of use, even if its file is gone. What was in use before takes over.

        Args:
            name: the name of the model or pack.
            kind: which of the two it is.
            tasks: only for these tasks; None for all.

        Returns:
            The tasks that it was in use for.
        """
        with self._changing() as history:
            chosen = [task for task in history if tasks is None or task in tasks]
            stopped = []
            for task in chosen:
                usable = self._usable(history, task)
                if usable and (usable[-1].kind, usable[-1].model) == (kind, name):
                    stopped.append(task)
                history[task] = tuple(one for one in history[task] if (one.kind, one.model) != (kind, name))
        return tuple(stopped)

    def roll_back(self, task: str, expected: str | None = None) -> tuple[str, str | None]:
        """Take the model or pack in use for a task out of use. It stays installed.

        Args:
            task: the task's name.
            expected: the name that must be in use; None accepts any.

        Returns:
            Its name, and the name of what is in use from now on (None for the base).

        Raises:
            UsageError: nothing is in use for the task, or something other than ``expected``.
        """
        with self._changing() as history:
            entries = self._usable(history, task)
            if not entries or expected not in (None, entries[-1].model):
                used = f"'{expected}' is not" if expected is not None else "No model or pack is"
                raise UsageError(f"{used} in use for the task '{task}'; there is nothing to roll back.")
            history[task] = entries[:-1]
        return entries[-1].model, entries[-2].model if len(entries) > 1 else None

    def _usable(self, history: History, task: str) -> tuple[InUse, ...]:
        """A task's entries without models that are no longer installed.

        A missing pack stays: loading it must fail, or its base would silently take over.
        """
        return tuple(entry for entry in history.get(task, ()) if entry.kind == "pack" or self._is_installed(entry))

    def _is_installed(self, entry: InUse) -> bool:
        try:
            return self._models.recorded(entry.model) == entry.sha256
        except UsageError:
            return False

    def _read(self) -> dict[str, tuple[InUse, ...]]:
        try:
            found = dict(_File.model_validate_json(read_small(self._path)).tasks) if self._path.exists() else {}
        except (BadInputError, ValidationError) as error:
            raise BadInputError(f"{self._path}: cannot be read; delete it to begin with no adopted model.") from error
        for task, packs in self._former_packs().items():
            known = found.get(task, ())
            # an adopted model went before a pack; a pack that is known here is in its place
            found[task] = (*(pack for pack in packs if not any(pack.is_same(one) for one in known)), *known)
        return found

    def _former_packs(self) -> dict[str, list[InUse]]:
        """The active packs recorded by earlier versions; those on the default model come last, so they stay in use."""
        if not self._former.exists():
            return {}
        try:
            active = _FormerPacks.model_validate_json(read_small(self._former)).active
        except (BadInputError, ValidationError) as error:
            raise BadInputError(f"{self._former}: cannot be read; delete it and activate your packs again.") from error
        found: dict[str, list[InUse]] = {}
        names = {self._recorded_name(sha256): sha256 for sha256 in active}
        for name in sorted(names, key=lambda name: name == DEFAULT_MODEL):
            for task, pack in active[names[name]].items():
                entry = InUse(kind="pack", model=pack, base=name, base_sha256=names[name], when=_LONG_AGO)
                found.setdefault(task, []).append(entry)
        return found

    def _recorded_name(self, sha256: str) -> str:
        """The name of the installed model with this sha256; the sha256 itself if there is none."""
        return next((name for name in self._models.names() if self._models.recorded(name) == sha256), sha256)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, tuple[InUse, ...]]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._path.with_suffix(".lock"), timeout=_LOCK_SECONDS):
                history = self._read()
                yield history
                kept = {task: entries for task, entries in history.items() if entries}
                remove_orphans(self._path.parent)
                write_text(self._path, _File(tasks=kept).model_dump_json(indent=1))
                self._former.unlink(missing_ok=True)  # it is all in the new one
        except Timeout as error:
            raise BadInputError(f"{self._path}: another process has been changing it; try again.") from error
