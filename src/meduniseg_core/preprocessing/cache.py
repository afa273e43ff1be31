"""Preprocesses a data set's cases once and keeps them on the disk, until something they were made from changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, Event, EventSink, Message, Progress, ignore
from meduniseg_core.files import atomic_path, remove_orphans, write_text
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.images.findings import report
from meduniseg_core.images.resample_grid import resample_to, resample_to_orthonormal
from meduniseg_core.preprocessing.cached_cases import CachedCase, CachedDataset, CaseRecord
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset
from meduniseg_core.preprocessing.fingerprint import case_seed
from meduniseg_core.preprocessing.label_ids import IGNORED, check_ids
from meduniseg_core.preprocessing.parallel import over_cases
from meduniseg_core.preprocessing.pipeline import preprocess, preprocess_labels
from meduniseg_core.preprocessing.plan import TaskPlan, unsaid_before, with_former_names
from meduniseg_core.preprocessing.source_files import SourceFiles

CACHE_VERSION = 1
"""Increased whenever preprocessing makes something else of the same input, so that old entries are rebuilt."""

_MARK = ".meduniseg-cache"  # a file in every folder of entries
SOURCES = ".sources"
"""The folder of a cache that remembers what is known of source files."""

COORDINATES_PER_CLASS = 10_000
Storage = Literal["float16", "float32"]


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
    only: Collection[str] | None = None,
    sources: SourceFiles | None = None,
) -> CachedDataset:
    """Preprocess a data set's training cases into ``cache_dir/<task>``; entries that still match are kept.

    An entry's key is made from the contents of its source files, the plan, the storage and the seed, so a change in any
    of them rebuilds it. Files are written atomically, the record last, so that several processes and machines may work
    on one cache, be killed, and be started again.

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
        only: Names of the cases to do, for machines that share the work; None for all.
        sources: Hashes the source files, and may remember them (see :func:`source_files`).

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
    wanted = [case for case in cases if only is None or case.case in only]
    jobs = [_Job(case, plan, folder, storage, seed, corrected.get(case.case), dataset.ignored) for case in wanted]
    files = sources or SourceFiles(None, dataset.folder)
    begin = time.monotonic()
    results: dict[str, CachedCase] = {}

    def report(job: _Job, found: CachedCase, heard: Sequence[Event] = ()) -> None:
        results[job.case.case] = found
        for event in heard:
            events(event)
        events(Progress(f"preprocess {plan.task}", len(results), len(jobs), time.monotonic() - begin, job.case.case))

    if parallel > 1:
        files.read_ahead(wanted, parallel)
    missing = []
    for job in jobs:
        if cancel is not None:
            cancel.raise_if_cancelled()
        kept = _existing(job, _keys(job, files))
        if kept is None:
            missing.append(job)
        else:
            report(job, kept)
    files.save()
    for job, (made, heard) in over_cases(_run, missing, parallel, cancel):
        report(job, made, heard)
    made_now = frozenset(job.case.case for job in missing)
    return CachedDataset(plan, folder, tuple(results[job.case.case] for job in jobs), made_now)


def source_files(dataset: RawDataset, cache_dir: Path, *, trust_times: bool = False) -> SourceFiles:
    """The hashes of a data set's files, remembered in the cache's folder.

    Args:
        dataset: The data set.
        cache_dir: The folder that holds the caches of all tasks.
        trust_times: Believe what is remembered of a file whose size and times did not change.

    Returns:
        The hashes.
    """
    return SourceFiles(Path(cache_dir) / SOURCES / f"{dataset.task}.json", dataset.folder, trust_times=trust_times)


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


def _run(job: _Job) -> tuple[CachedCase, list[Event]]:
    keys = _keys(job, SourceFiles(None, job.case.images[0].parent))  # of the very files that are read now
    kept = _existing(job, keys)
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
        key=keys[0],
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
    return CachedCase(job.folder, record, keys[1]), heard


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


def _keys(job: _Job, files: SourceFiles) -> tuple[str, str]:
    """The key of an entry that is made now, and the one that it had before November 28, 2026: both are valid."""
    assert job.case.label is not None
    content: dict[str, Any] = {
        "version": CACHE_VERSION,
        "storage": job.storage,
        "seed": job.seed,
        "patient": job.case.patient,
        "images": [files.sha256(path) for path in job.case.images],
        "label": files.sha256(job.case.label),
        **({} if job.prediction is None else {"prediction": files.sha256(job.prediction)}),
        **({} if job.ignored is None else {"ignored": job.ignored}),
    }
    part = _preprocessing_part(job.plan)
    # figures are used by one normalisation only: with another, a changed label must not cost the whole data set
    figures = [own if kind == "ct" else None for kind, own in zip(job.plan.normalisation, part["figures"], strict=True)]
    own, former = (
        hashlib.sha256(json.dumps({**content, "plan": plan}, sort_keys=True).encode()).hexdigest()
        for plan in ({**part, "figures": figures}, part)
    )
    return own, former


def _preprocessing_part(plan: TaskPlan) -> dict[str, Any]:
    # what the voxels depend on: a new patch size or title must not cost a rebuild; training images are never windowed
    unused = {"title", "patch", "batch", "mirror_axes", "modality", "statistics", "hu_window"}
    unused |= {"small_images", "averaging", "largest_only"}
    return with_former_names(plan.model_dump(mode="json", exclude=unused | unsaid_before(plan)))


def _existing(job: _Job, keys: tuple[str, str]) -> CachedCase | None:
    path = job.folder / f"{job.case.case}.json"
    try:
        record = CaseRecord.model_validate_json(path.read_bytes())
        found = CachedCase(job.folder, record, keys[1])
        maps = (found.seg, found.changed)
        fits = record.key in keys and found.data.shape[1:] == record.shape
        fits = fits and all(part is None or part.shape == record.shape for part in maps)
    except (OSError, ValueError, ValidationError, BadInputError):
        return None  # absent or damaged: rebuilt
    return found if fits else None


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
