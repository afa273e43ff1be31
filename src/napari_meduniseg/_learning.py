"""What the Learn widget shows and starts: the cases of a data set, and trainings as runs. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.adaptation.expected_time import expected_time
from meduniseg_core.adaptation.jobs import Job, finetune_job, refine_job
from meduniseg_core.adaptation.run import runs_folder
from meduniseg_core.adaptation.runs import free_name, runs
from meduniseg_core.corrections import Ledger, LedgerEntry
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.events import CancelToken
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.weights import ActiveModels, PackRegistry, Registry
from meduniseg_core.worklist import thumbnail
from napari_meduniseg._collections import Collection, add_collection
from napari_meduniseg._durations import duration_range
from napari_meduniseg._learn_options import LearnOptions

THUMBNAIL = 72  # px
SIDES = {"training": "training", "validation": "held back", None: "drawn at the start"}


@dataclass(frozen=True)
class CaseRow:
    """One case of a data set; for a ledger also its side of the split, its patient and what was changed."""

    case: str
    side: str
    patient: str
    changed: str
    raw: RawCase
    version: str  # another picture for another

    @property
    def held_back(self) -> bool:
        """Whether the case is never trained on."""
        return self.side == SIDES["validation"]


@dataclass(frozen=True)
class Cases:
    """A data set as the widget shows it."""

    folder: Path
    task: str
    modality: str
    rows: tuple[CaseRow, ...]
    base: str


def data_at(folder: Path) -> Collection:
    """Find the collection or data set in a folder; BadInputError where there is neither."""
    if Ledger.is_at(folder):
        return add_collection(folder)
    return Collection(folder, RawDataset.open(folder).task, counts=None)


def look_up(folder: Path) -> Cases:
    """Find the labelled cases of a ledger or a data set, in a worker's thread.

    Raises BadInputError where it is neither.
    """
    dataset = RawDataset.open(folder)
    entries: dict[str, LedgerEntry] = Ledger.open(folder).cases() if Ledger.is_at(folder) else {}
    rows = tuple(_row(case, entries.get(case.case)) for case in dataset.cases("Tr") if case.label is not None)
    used = [entry.model.name for entry in entries.values() if entry.model is not None]
    known = {entry.name for entry in Registry().list() if entry.info is not None}
    adopted = ActiveModels().models().get(dataset.task)
    base = adopted or next((name for name in reversed(used) if name in known), "starter")
    return Cases(Path(folder), dataset.task, dataset.modality, rows, base)


def thumbnails(rows: Sequence[CaseRow], send: Callable[[object], None], cancel: CancelToken) -> None:
    """Send ``(case, PNG)`` one after the other, in a worker's thread. Cases that cannot be read are skipped."""
    for row in rows:
        cancel.raise_if_cancelled()
        try:
            picture = thumbnail(row.raw.images, row.raw.label, THUMBNAIL)
        except (MedUniSegError, OSError, ValueError):
            continue  # what is wrong with it is said when it is trained on
        send((row.case, picture))


def job_of(data: Cases, options: LearnOptions, left_out: tuple[str, ...] = ()) -> Job:
    """Make the training job. Raises UsageError where that is impossible, for example for an invalid name."""
    common = {"iterations": options.budget.iterations, "leave_out": left_out, "device": options.device}
    name = options.name.strip()
    if options.method == "finetune":
        return finetune_job(data.folder, name, options.base, quick=options.budget.quick, **common)
    return refine_job((data.folder,), name, options.base, install=False, **common)  # adopting installs it


def forecast_training(job: Job) -> str:
    """Say how long a job's training will take, in a worker's thread: it loads the base.

    Raises UsageError or BadInputError where the job cannot be done.
    """
    found = expected_time(job, runs(), runs_folder() / job.name)
    if found is None:
        return "How long it takes can be said once it trains."
    return f"Training takes about {duration_range(*found)}, then it is compared with its base."


def proposed_name(task: str) -> str:
    """Propose a name that no run, model or pack has."""
    return free_name(task, [*Registry().names(), *PackRegistry().names()])


def _row(case: RawCase, entry: LedgerEntry | None) -> CaseRow:
    if entry is None:
        return CaseRow(case.case, SIDES[None], case.patient, "", case, "")
    changed = ""
    if entry.has_prediction:
        unit = "pixels" if entry.shape[0] == 1 else "voxels"
        changed = f"{sum((c.added or 0) + (c.removed or 0) for c in entry.classes):,} {unit}"
    patient = entry.patient if entry.patient != entry.case else ""
    return CaseRow(case.case, SIDES[entry.subset], patient, changed, case, entry.labels_sha256)
