"""Preprocessed cases as a training reads them: their records, and their arrays through memory maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.errors import BadInputError
from meduniseg_core.preprocessing.plan import TaskPlan


class CaseRecord(BaseModel):
    """`<case>.json`. It is written last: an entry whose record is missing or does not match is rebuilt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    case: str
    patient: str
    shape: tuple[int, int, int]
    counts: dict[int, int]
    foreground: dict[int, list[tuple[int, int, int]]]
    changed: list[tuple[int, int, int]] | None = None
    looked_at: list[tuple[int, int, int]] | None = None


@dataclass(frozen=True)
class CachedCase:
    """One preprocessed case. Its arrays are opened as memory maps on each access and not kept open.

    ``run_key`` is what the hash of a training holds of it: the key that entries had before November 28, 2026, whichever
    key this one was made under, so that runs go on with a cache that is made anew.
    """

    folder: Path
    record: CaseRecord = field(repr=False)
    run_key: str = field(default="", repr=False)

    @property
    def case(self) -> str:
        """The case's name."""
        return self.record.case

    @property
    def patient(self) -> str:
        """The patient that the image shows; a split never separates a patient's cases."""
        return self.record.patient

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size (d, h, w)."""
        return self.record.shape

    @property
    def counts(self) -> dict[int, int]:
        """Label id -> number of its voxels; background included."""
        return self.record.counts

    @property
    def data(self) -> np.ndarray:
        """Normalised intensities (C, d, h, w), float16 or float32, read-only."""
        return _opened(self.folder / f"{self.case}.npy")

    @property
    def seg(self) -> np.ndarray:
        """Label ids (d, h, w), uint8, read-only; ``IGNORED`` where nothing was labelled."""
        return _opened(self.folder / f"{self.case}_seg.npy")

    @cached_property
    def foreground(self) -> dict[int, np.ndarray]:
        """For each label id, up to 10,000 of its voxels as int32 (n, 3), in (d, h, w); seeded by the case."""
        return {
            label: np.array(points, dtype=np.int32).reshape(-1, 3) for label, points in self.record.foreground.items()
        }

    @property
    def changed(self) -> np.ndarray | None:
        """Where the labels differ from the prediction they correct: uint8 (d, h, w), 0 or 1, read-only.

        None for a case without a prediction.
        """
        return None if self.record.changed is None else _opened(self.folder / f"{self.case}_changed.npy")

    @cached_property
    def looked_at(self) -> np.ndarray | None:
        """Up to 10,000 labelled voxels (background included) as int32 (n, 3), in (d, h, w).

        None where all voxels are labelled.
        """
        points = self.record.looked_at
        return None if points is None else np.array(points, dtype=np.int32).reshape(-1, 3)

    @cached_property
    def changed_voxels(self) -> np.ndarray:
        """Up to 10,000 voxels of `changed`, as int32 (n, 3), in (d, h, w)."""
        return np.array(self.record.changed or [], dtype=np.int32).reshape(-1, 3)


@dataclass(frozen=True)
class CachedDataset:
    """The preprocessed training cases of one task, sorted by name; ``made`` are those that were not there before."""

    plan: TaskPlan
    folder: Path
    cases: tuple[CachedCase, ...]
    made: frozenset[str] = frozenset()

    @property
    def task(self) -> str:
        """The task's name."""
        return self.plan.task

    @property
    def bytes(self) -> int:
        """Size of the cases' files on the disk."""
        ends = (".npy", "_seg.npy", "_changed.npy", ".json")
        paths = (self.folder / f"{case.case}{end}" for case in self.cases for end in ends)
        return sum(path.stat().st_size for path in paths if path.is_file())

    @property
    def class_voxels(self) -> dict[str, int]:
        """How many voxels each class has on the network's grid, over all cases."""
        named = enumerate(self.plan.classes, start=1)
        return {name: sum(case.counts.get(label, 0) for case in self.cases) for label, name in named}

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[CachedCase]:
        return iter(self.cases)


def _opened(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"The preprocessed {path} cannot be read ({error}); delete it and preprocess again."
        ) from None
    return array
