"""Preprocessed cases on disk. They are made once; the trainer reads windows of them through memory maps."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, Event, EventSink, Message, Progress, ignore
from meduniseg_core.files import atomic_path, remove_orphans, sha256_of, write_text
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.images.findings import report
from meduniseg_core.images.resample_grid import resample_to, resample_to_orthonormal
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset
from meduniseg_core.preprocessing.fingerprint import case_seed
from meduniseg_core.preprocessing.label_ids import IGNORED, check_ids
from meduniseg_core.preprocessing.pipeline import preprocess, preprocess_labels
from meduniseg_core.preprocessing.plan import TaskPlan, unsaid_before, with_former_names
from meduniseg_core.processes import end_with_parent

CACHE_VERSION = 1
"""Increased whenever preprocessing makes something else of the same input, so that old entries are rebuilt."""

_MARK = ".meduniseg-cache"  # a file in every folder of entries

COORDINATES_PER_CLASS = 10_000
Storage = Literal["float16", "float32"]


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
    """One preprocessed case. Its arrays are opened as memory maps on each access and not kept open."""

    folder: Path
    record: CaseRecord = field(repr=False)

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
    """The preprocessed training cases of one task, sorted by name."""

    plan: TaskPlan
    folder: Path
    cases: tuple[CachedCase, ...]

    @property
    def task(self) -> str:
        """The task's name."""
        return self.plan.task

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[CachedCase]:
        return iter(self.cases)


def preprocess_dataset(
    dataset: RawDataset,
    plan: TaskPlan,
    cache_dir: Path,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
    *,
    parallel: int = 1,
    storage: Storage = "float16",
    seed: int = 0,
    predictions: Mapping[str, Path] | None = None,
) -> CachedDataset:
    """Preprocess a data set's training cases into ``cache_dir/<task>``; entries that still match are kept.

    An entry's key is made from the contents of its source files, the plan, the storage and the seed, so a change in any
    of them rebuilds it. Files are written atomically, the record last.

    Args:
        dataset: The data set; all its training cases have labels.
        plan: The task's plan.
        cache_dir: The folder that holds the caches of all tasks.
        events: Receives progress and messages.
        cancel: Ends the work between two cases.
        parallel: Number of processes.
        storage: The dtype of the stored intensities.
        seed: Seeds the draw of foreground voxels.
        predictions: The label map that each case's labels correct, by case. The voxels that were changed are stored,
            too.

    Returns:
        The preprocessed cases.

    Raises:
        BadInputError: A case cannot be used (the message names the file), the data set has no labelled cases or too
            many classes, or the folder holds other files.
        CancelledError: ``cancel`` was set.
    """
    cases = dataset.training_cases()
    if dataset.ignored is not None and plan.class_count > IGNORED:
        raise BadInputError(
            f"{dataset.folder} has {plan.class_count - 1} classes and the label 'ignore', and at most {IGNORED - 1} "
            "classes are taken beside that; make it two data sets."
        )
    folder = Path(cache_dir) / plan.task
    _begin(folder)
    corrected = predictions or {}
    jobs = [_Job(case, plan, folder, storage, seed, corrected.get(case.case), dataset.ignored) for case in cases]
    begin = time.monotonic()
    results: dict[str, CachedCase] = {}

    def report(job: _Job, outcome: tuple[CachedCase, list[Event]]) -> None:
        results[job.case.case] = outcome[0]
        for event in outcome[1]:
            events(event)
        events(Progress(f"preprocess {plan.task}", len(results), len(jobs), time.monotonic() - begin, job.case.case))

    if parallel > 1 and len(jobs) > 1:
        _run_parallel(jobs, parallel, report, cancel)
    else:
        for job in jobs:
            if cancel is not None:
                cancel.raise_if_cancelled()
            report(job, _run(job))
    return CachedDataset(plan, folder, tuple(results[job.case.case] for job in jobs))


def _begin(folder: Path) -> None:
    """Mark the task's folder as a cache; BadInputError where it holds files that are not entries of one."""
    remove_orphans(folder)  # of a preprocessing that was killed; another one may be at work in the same folder
    mark = folder / _MARK
    if mark.exists():
        return
    if folder.is_dir():
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if entries and not any(_is_entry(path) for path in entries if path.suffix == ".json"):
            raise BadInputError(f"{folder} holds files that are not preprocessed cases; choose another folder.")
    write_text(mark, "")


def _is_entry(record: Path) -> bool:
    try:
        CaseRecord.model_validate_json(record.read_bytes())
    except (OSError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class _Job:
    case: RawCase
    plan: TaskPlan
    folder: Path
    storage: Storage
    seed: int
    prediction: Path | None
    ignored: int | None


def _run_parallel(jobs: list[_Job], parallel: int, report: Any, cancel: CancelToken | None) -> None:
    # spawn: a forked child of a process that has used torch's threads can hang
    with ProcessPoolExecutor(
        min(parallel, len(jobs)), mp_context=get_context("spawn"), initializer=_begin_worker
    ) as pool:
        waiting: dict[Future[tuple[CachedCase, list[Event]]], _Job] = {pool.submit(_run, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                report(waiting[future], future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_worker() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)


def _run(job: _Job) -> tuple[CachedCase, list[Event]]:
    key = _key(job)
    kept = _existing(job, key)
    if kept is not None:
        return kept, []
    heard: list[Event] = []
    assert job.case.label is not None
    image = read_image(job.case.images)
    labels = read_labels(job.case.label)
    check_ids(labels, job.plan.classes, job.ignored)
    # at right angles first (a tilted gantry); labels follow, and cases that do not fit are found before that
    labels = place_labels(labels, image)
    report(labels.findings, heard.append)
    difference = None if job.prediction is None else _difference(labels, job.prediction, job.ignored)
    if job.ignored is not None:
        labels = labels.with_array(np.where(labels.array == job.ignored, IGNORED, labels.array).astype(np.uint8))
    image, straightened = resample_to_orthonormal(image) if image.physical else (image, False)
    if straightened:
        heard.append(Message("info", f"{image.name} has a sheared grid and was resampled to right angles."))
        labels = resample_to(labels, image.geometry, labels=True)
        difference = None if difference is None else resample_to(difference, image.geometry, labels=True)
    labelled = labels if job.ignored is None else labels.with_array(np.where(labels.array == IGNORED, 0, labels.array))
    made = preprocess(image, job.plan, keep=labelled, events=heard.append)
    seg = preprocess_labels(labels, made.trace)
    changed = None if difference is None else preprocess_labels(difference, made.trace)
    data = made.data
    if job.storage == "float16":
        limit = float(np.finfo(np.float16).max)
        data = np.clip(data, -limit, limit).astype(np.float16)
    counts = np.bincount(seg.ravel(), minlength=job.plan.class_count)[: job.plan.class_count]
    record = CaseRecord(
        key=key,
        case=job.case.case,
        patient=job.case.patient,
        shape=made.trace.grid.shape,
        counts={label: int(count) for label, count in enumerate(counts)},
        foreground=foreground_voxels(seg, range(1, job.plan.class_count), job.case.case, job.seed),
        changed=None if changed is None else foreground_voxels(changed, (1,), job.case.case, job.seed)[1],
        looked_at=None if job.ignored is None else labelled_voxels(seg, job.case.case, job.seed),
    )
    _save(job.folder / f"{job.case.case}.npy", data)
    _save(job.folder / f"{job.case.case}_seg.npy", seg)
    if changed is not None:
        _save(job.folder / f"{job.case.case}_changed.npy", changed)
    write_text(job.folder / f"{job.case.case}.json", record.model_dump_json())
    if not any(record.foreground.values()):
        heard.append(Message("info", f"{labels.name} holds no foreground on the grid of task {job.plan.task}."))
    return CachedCase(job.folder, record), heard


def foreground_voxels(
    seg: np.ndarray, labels: Sequence[int], case: str, seed: int
) -> dict[int, list[tuple[int, int, int]]]:
    """Draw voxels of each label.

    Args:
        seg: Label ids ``(d, h, w)``.
        labels: The labels to draw voxels of.
        case: The case's name, which seeds the draw.
        seed: Seeds the draw, too.

    Returns:
        For each label up to 10,000 voxels ``(d, h, w)``.
    """
    generator = np.random.default_rng(case_seed(case, seed))
    flat = seg.ravel()
    points: dict[int, list[tuple[int, int, int]]] = {}
    for label in labels:
        index = np.flatnonzero(flat == label)
        if index.size > COORDINATES_PER_CLASS:
            index = np.sort(generator.choice(index, COORDINATES_PER_CLASS, replace=False))
        points[label] = [(int(d), int(h), int(w)) for d, h, w in zip(*np.unravel_index(index, seg.shape), strict=True)]
    return points


def labelled_voxels(seg: np.ndarray, case: str, seed: int) -> list[tuple[int, int, int]]:
    """Draw voxels that are labelled, background included.

    Args:
        seg: Label ids ``(d, h, w)``; ``IGNORED`` where nothing was labelled.
        case: The case's name, which seeds the draw.
        seed: Seeds the draw, too.

    Returns:
        Up to 10,000 voxels ``(d, h, w)``.
    """
    return foreground_voxels((seg != IGNORED).astype(np.uint8), (1,), case, seed)[1]


def _difference(labels: Image, prediction: Path, ignored: int | None) -> Image:
    """1 where ``labels`` differ from the prediction, on their grid."""
    predicted = place_labels(read_labels(prediction), labels)
    differ = labels.array != predicted.array
    if ignored is not None:
        differ &= labels.array != ignored
    return labels.with_array(differ.astype(np.uint8))


def _key(job: _Job) -> str:
    assert job.case.label is not None
    content: dict[str, Any] = {
        "version": CACHE_VERSION,
        "plan": _preprocessing_part(job.plan),
        "storage": job.storage,
        "seed": job.seed,
        "patient": job.case.patient,
        "images": [sha256_of(path) for path in job.case.images],
        "label": sha256_of(job.case.label),
        **({} if job.prediction is None else {"prediction": sha256_of(job.prediction)}),
        **({} if job.ignored is None else {"ignored": job.ignored}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _preprocessing_part(plan: TaskPlan) -> dict[str, Any]:
    # what the voxels depend on: a new patch size or title must not cost a rebuild; training images are never windowed
    unused = {"title", "patch", "batch", "mirror_axes", "modality", "statistics", "hu_window"}
    unused |= {"small_images", "averaging"}
    return with_former_names(plan.model_dump(mode="json", exclude=unused | unsaid_before(plan)))


def _existing(job: _Job, key: str) -> CachedCase | None:
    path = job.folder / f"{job.case.case}.json"
    try:
        record = CaseRecord.model_validate_json(path.read_bytes())
        found = CachedCase(job.folder, record)
        maps = (found.seg, found.changed)
        fits = record.key == key and found.data.shape[1:] == record.shape
        fits = fits and all(part is None or part.shape == record.shape for part in maps)
    except (OSError, ValueError, ValidationError, BadInputError):
        return None  # absent or damaged: rebuilt
    return found if fits else None


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def _opened(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"The preprocessed {path} cannot be read ({error}); delete it and preprocess again."
        ) from None
    return array
