"""The packs on this machine, and which of them are in use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.paths import user_folder
from meduniseg_core.weights.active import ActiveModels, InUse
from meduniseg_core.weights.model_file import Model
from meduniseg_core.weights.pack_file import Pack, PackInfo, packs_by_task, read_pack, read_pack_info
from meduniseg_core.weights.store import AssetStore


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
        """The packs in use on one base.

        Args:
            base_sha256: the model's.

        Returns:
            Name by task, of the tasks for which nothing else is in use.
        """
        used = self._in_use.entries()
        return {
            task: entry.model
            for task, entry in used.items()
            if entry.kind == "pack" and entry.base_sha256 == base_sha256
        }

    def in_use_for(self, name: str) -> tuple[str, ...]:
        """The tasks that a pack is in use for.

        Args:
            name: the pack's.

        Returns:
            The tasks.
        """
        used = self._in_use.entries()
        return tuple(task for task, entry in used.items() if (entry.kind, entry.model) == ("pack", name))

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
        """Use a pack from now on, in place of what was in use. BadInputError for one that is broken or altered.

        Args:
            name: the pack's.
            tasks: for these only; default: for all that it refines.

        Returns:
            Name of the pack in use by task, of all tasks of its base that have one.

        Raises:
            UsageError: it does not refine one of ``tasks``.
        """
        pack = self.load(name)
        info = pack.info
        for task in tasks or ():
            if task not in info.tasks:
                raise UsageError(f"Pack {name} does not refine the task '{task}'; it is for: {', '.join(info.tasks)}.")
        entry = InUse(
            kind="pack",
            model=name,
            sha256=pack.sha256,
            base=info.base,
            base_sha256=info.base_sha256,
            when=datetime.now(UTC),
        )
        self._in_use.take(tasks or info.tasks, entry)
        return self.active(info.base_sha256)

    def deactivate(self, name: str, tasks: Sequence[str] | None = None) -> tuple[str, ...]:
        """Use a pack no more; what was in use before takes over. Works for a pack that is gone or broken, too.

        Args:
            name: the pack's.
            tasks: for these only; default: for all.

        Returns:
            The tasks that it was in use for.

        Raises:
            UsageError: it was not in use.
        """
        stopped = self._in_use.stop(name, "pack", tasks)
        if not stopped:
            raise UsageError(f"Pack '{name}' is not in use{' for ' + ', '.join(tasks) if tasks else ''}.")
        return stopped

    def remove(self, name: str) -> None:
        """Delete a pack; where it was in use, what was in use before takes over.

        Args:
            name: the pack's.
        """
        self.find(name)
        self._in_use.stop(name, "pack")
        super().remove(name)

    @property
    def _in_use(self) -> ActiveModels:
        return ActiveModels(self.folder.parent)
