"""The packs on this machine, and which of them are in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.weights.model_file import Model
from meduniseg_core.weights.pack_file import Pack, PackInfo, packs_by_task, read_pack, read_pack_info
from meduniseg_core.weights.store import AssetStore

_STATE_FILE = "active.json"


class _State(BaseModel):
    """sha256 of a base -> task -> name of the pack in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: dict[str, dict[str, str]] = {}


class PackRegistry(AssetStore[PackInfo, Pack]):
    """Packs by name. ``folder`` defaults to ``packs`` in the user's data folder (``MEDUNISEG_HOME`` overrides it).

    Any number of packs may refine one base; at most one is in use for each of its tasks.
    """

    noun: ClassVar[str] = "pack"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(Path(folder) if folder is not None else user_folder() / "packs")

    def read_info(self, path: Path) -> PackInfo:
        """The description in a pack's header."""
        return read_pack_info(path)

    def read(self, path: Path) -> Pack:
        """A pack."""
        return read_pack(path)

    def active(self, base_sha256: str) -> dict[str, str]:
        """Task -> name of the pack in use, for the base of this sha256."""
        return dict(self._state().active.get(base_sha256, {}))

    def in_use_for(self, name: str) -> tuple[str, ...]:
        """The tasks that the pack called ``name`` is in use for."""
        active = self._state().active.values()
        return tuple(task for own in active for task, used in own.items() if used == name)

    def active_packs(self, model: Model, tasks: Sequence[str] | None = None) -> dict[str, Pack]:
        """Task -> pack in use on ``model``, loaded; of ``tasks`` only, where they are given.

        BadInputError for a pack that is broken, altered or gone: it would be left out silently otherwise.
        """
        names = {task: name for task, name in self.active(model.sha256).items() if tasks is None or task in tasks}
        there = self._paths()
        for task, name in names.items():
            if name not in there:
                raise BadInputError(
                    f"Pack {name}, in use for task {task}, is not in {self.folder} any more; install it again or "
                    f"deactivate it."
                )
        loaded = {name: self.load(name) for name in dict.fromkeys(names.values())}
        return packs_by_task(model, {task: loaded[name] for task, name in names.items()})

    def activate(self, name: str, tasks: Sequence[str] | None = None) -> dict[str, str]:
        """Use the pack for ``tasks`` (default: all that it refines) from now on; returns its base's tasks and packs.

        UsageError for a task that it does not refine; BadInputError for a pack that is broken or altered.
        """
        info = self.load(name).info
        for task in tasks or ():
            if task not in info.tasks:
                raise UsageError(f"Pack {name} does not refine the task '{task}'; it is for: {', '.join(info.tasks)}.")
        with self._changing() as active:
            own = active.setdefault(info.base_sha256, {})
            own.update(dict.fromkeys(tasks or info.tasks, name))
            return dict(own)

    def deactivate(self, name: str, tasks: Sequence[str] | None = None) -> tuple[str, ...]:
        """Use the pack no more, for ``tasks`` or at all; returns the tasks that it was in use for.

        Works for a pack that is gone or broken. UsageError where it was not in use.
        """
        with self._changing() as active:
            stopped = []
            for own in active.values():
                for task in [task for task, used in own.items() if used == name and task in (tasks or own)]:
                    del own[task]
                    stopped.append(task)
        if not stopped:
            raise UsageError(f"Pack '{name}' is not in use{' for ' + ', '.join(tasks) if tasks else ''}.")
        return tuple(stopped)

    def remove(self, name: str) -> None:
        """Delete the pack; where it was in use the base takes over."""
        self.find(name)
        if self.in_use_for(name):
            self.deactivate(name)
        super().remove(name)

    def _state(self) -> _State:
        path = self.folder / _STATE_FILE
        try:
            return _State.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _State()
        except (OSError, ValidationError) as error:
            raise BadInputError(f"{path}: cannot be read; delete it and activate your packs again.") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, str]]]:
        with self._locked():
            active = {base: dict(own) for base, own in self._state().active.items()}
            yield active
            kept: Mapping[str, dict[str, str]] = {base: own for base, own in active.items() if own}
            write_text(self.folder / _STATE_FILE, _State(active=dict(kept)).model_dump_json(indent=1) + "\n")
