"""The collections of corrections: this user's, and those of other folders. The same for all panels; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import UsageError
from meduniseg_core.paths import corrections_folder


@dataclass(frozen=True)
class Collection:
    """An existing ledger, one to be created, or (``counts`` is None) a data set that is no ledger."""

    folder: Path
    task: str
    modality: str | None = None
    exists: bool = True
    counts: tuple[int, int] | None = (0, 0)

    @property
    def text(self) -> str:
        """The collection's line in a list."""
        if not self.exists:
            return f"{self.task} (new)"
        if self.counts is None:
            return self.folder.name
        training, validation = self.counts
        return f"{self.task}: {training} for training, {validation} held back"


def collections() -> list[Collection]:
    """List this user's ledgers by name, then those of other folders. Folders that cannot be read are skipped."""
    found = []
    own = (path.parent for path in sorted(corrections_folder().glob("*/ledger.jsonl")))
    for folder in dict.fromkeys((*own, *_elsewhere(corrections_folder()))):
        try:
            found.append(collection_at(folder))
        except Exception:
            continue
    return found


def collection_at(folder: Path) -> Collection:
    """Find the ledger in a folder; BadInputError where there is none."""
    ledger = Ledger.open(folder)
    sides = list(ledger.split().values())
    counts = sides.count("training"), sides.count("validation")
    return Collection(folder, ledger.task, ledger.dataset.modality, True, counts)


def add_collection(folder: Path) -> Collection:
    """Find the ledger in a folder, and list it until napari is closed; BadInputError where there is none."""
    found = collection_at(folder)
    _elsewhere(corrections_folder())[folder] = None
    return found


def new_collection(task: str, modality: str | None) -> Collection:
    """Describe a new ledger for this task; UsageError for a name that is not allowed, or without a modality."""
    plain = task.strip().lower().replace(" ", "_")
    if not plain or not plain[0].isalnum() or any(not (c.isalnum() or c in "_.-") or not c.isascii() for c in plain):
        raise UsageError(f"'{task}' cannot be a task's name; use letters, digits, _ and -.")
    if modality is None:
        raise UsageError("Say under 'Modality' what kind of image it is; the labels do not tell.")
    return Collection(corrections_folder() / plain, plain, modality, exists=False)


@cache
def _elsewhere(_home: Path) -> dict[Path, None]:
    """The folders that were added, in their order, by the user's folder of collections."""
    return {}
