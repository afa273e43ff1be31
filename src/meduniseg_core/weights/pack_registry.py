"""The installed packs, and which of them are in use."""

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
    """Packs by name.

    Any number of packs may refine one base; at most one is in use for each of its tasks.

    Args:
        folder: by default ``packs`` in the user's data folder (``MEDUNISEG_HOME`` overrides it).
    """

    noun: ClassVar[str] = "pack"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(Path(folder) if folder is not None else user_folder() / "packs")

    def read_info(self, path: Path) -> PackInfo:
        """Read a pack's description from its file's header.

        Args:
            path: the pack file.

        Returns:
            The description.

        Raises:
            BadInputError: it is not a usable pack.
        """
        return read_pack_info(path)

    def read(self, path: Path) -> Pack:
        """Load a pack from a file.

        Args:
            path: the pack file.

        Returns:
            The pack.

        Raises:
            BadInputError: it is not a usable pack.
        """
        return read_pack(path)

    def active(self, base_sha256: str) -> dict[str, str]:
        """The packs in use on a base.

        Args:
            base_sha256: sha256 of the base model.

        Returns:
            The name of the active pack for each task. Tasks for which something else is in use are absent.
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
            name: the pack's name.

        Returns:
            The tasks.
        """
        used = self._in_use.entries()
        return tuple(task for task, entry in used.items() if (entry.kind, entry.model) == ("pack", name))

    def active_packs(self, model: Model, tasks: Sequence[str] | None = None) -> dict[str, Pack]:
        """Load the packs in use on a model.

        Args:
            model: the base.
            tasks: only for these tasks; None for all.

        Returns:
            The pack of each task that has one.

        Raises:
            BadInputError: an active pack is missing, damaged or altered. Leaving it out would silently change the
                result.
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

    def activate(self, name: str, tasks: Sequence[str] | None = None) -> tuple[str, ...]:
        """Put an installed pack into use, in place of what was in use before.

        Args:
            name: the pack's name.
            tasks: only for these tasks; None for all that it refines.

        Returns:
            The tasks that the pack is in use for, earlier ones included.

        Raises:
            UsageError: there is no such pack, or it does not refine one of ``tasks``.
            BadInputError: its file is damaged or was altered.
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
        return self.in_use_for(name)

    def deactivate(self, name: str, tasks: Sequence[str] | None = None) -> tuple[str, ...]:
        """Take a pack out of use, even if its file is missing or damaged. What was in use before takes over.

        Args:
            name: the pack's name.
            tasks: only for these tasks; None for all.

        Returns:
            The tasks that it was in use for.

        Raises:
            UsageError: it is not in use.
        """
        stopped = self._in_use.stop(name, "pack", tasks)
        if not stopped:
            raise UsageError(f"Pack '{name}' is not in use{' for ' + ', '.join(tasks) if tasks else ''}.")
        return stopped

    def remove(self, name: str) -> None:
        """Delete a pack. If it is in use, what was in use before takes over.

        Args:
            name: the pack's name.

        Raises:
            UsageError: there is no such pack.
        """
        self.find(name)
        self._in_use.stop(name, "pack")
        super().remove(name)

    @property
    def _in_use(self) -> ActiveModels:
        return ActiveModels(self.folder.parent)
