"""Measures a model on the cases of a data set: segments what has no result yet, and writes a report."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence, Set
from pathlib import Path

from meduniseg_core.evaluation import Report, evaluate_folders, write_report
from meduniseg_core.evaluation.gaps import REPORT_FILE, read_reports
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path, sha256_of, write_text
from meduniseg_core.former_results import read_record
from meduniseg_core.images import Image, read_image
from meduniseg_core.images.formats import ending_of, stem_of
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.provenance import IMAGE_SHA256, RESULT, provenance_path
from meduniseg_core.structured_text import json_text, try_read_json
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.prepare import CASES_FILE
from meduniseg_core.training.split import read_splits
from meduniseg_core.version import __version__

PREDICTIONS, REFERENCES = "predictions", "references"
MEASURED_FILE = "measured.json"
"""The file that says of which predictions and references a folder's report is."""


def held_back_cases(config: TrainingConfig, dataset: RawDataset) -> list[RawCase]:
    """List the cases of a data set that a run held back.

    Args:
        config: the run, which has begun.
        dataset: one of its data sets.

    Returns:
        The cases, sorted by name.

    Raises:
        BadInputError: the run's split cannot be read.
    """
    held = set(read_splits(config.output / CASES_FILE)[dataset.task].validation)
    return [case for case in dataset.cases("Tr") if case.case in held]


def predict_cases(
    predictor: Predictor,
    dataset: RawDataset,
    cases: Sequence[RawCase],
    folder: Path,
    *,
    renew: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> None:
    """Segment cases that have labels; a case whose result is there already is passed over.

    Args:
        predictor: of a model that has the data set's task.
        dataset: the data set.
        cases: its cases.
        folder: receives ``predictions/CASE.ext``, and the labels as ``references/CASE.ext``.
        renew: do a case again whose result is another model's or another image's, copy labels that changed, and remove
            what is left of cases that are no longer asked for.
        events: receives progress (stage "cases").
        cancel: stops the work.

    Raises:
        BadInputError: a case cannot be segmented.
        CancelledError: ``cancel`` was set.
    """
    began = time.monotonic()
    labelled = [case for case in cases if case.label is not None]
    if renew:
        _remove_others(folder, {case.case for case in labelled})
    for number, case in enumerate(labelled):
        events(Progress("cases", number, len(labelled), time.monotonic() - began, case.case))
        image = read_image(case.images)
        target = folder / PREDICTIONS / f"{case.case}{'.png' if image.is_2d else '.nii.gz'}"
        stale = renew and not _is_of(target, image, predictor)
        if stale:
            _remove_result(target)
        if stale or not target.is_file():
            found = predictor.segment(image, dataset.task, events=ignore, cancel=cancel)[dataset.task]
            found.save(target)
        assert case.label is not None
        reference = folder / REFERENCES / f"{case.case}{ending_of(case.label)}"
        if renew and reference.is_file() and sha256_of(reference) != sha256_of(case.label):
            reference.unlink()
        if not reference.is_file():
            reference.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(reference) as temporary:
                shutil.copyfile(case.label, temporary)


def _is_of(target: Path, image: Image, predictor: Predictor) -> bool:
    """Whether a file is a result of this image and this model, as it was written."""
    record = read_record(provenance_path(target))
    same = record.get(IMAGE_SHA256) == image.sha256 and record.get("model_sha256") == predictor.model.sha256
    return same and _is_unedited(target)


def _is_unedited(target: Path) -> bool:
    record = provenance_path(target)
    return target.is_file() and RESULT.vouched(record, read_record(record)).get(target.name) == sha256_of(target)


def _remove_others(folder: Path, cases: Set[str]) -> None:
    """Remove what is left of other cases."""
    for part in (PREDICTIONS, REFERENCES):
        for path in sorted((folder / part).iterdir()) if (folder / part).is_dir() else ():
            if not path.name.startswith(".") and stem_of(path).removesuffix(".json") not in cases:
                path.unlink()


def _remove_result(target: Path) -> None:
    """Remove a result, unless it was edited or is another program's: then writing the new one refuses it by name."""
    if _is_unedited(target):
        target.unlink()
        provenance_path(target).unlink()


def report_cases(dataset: RawDataset, folder: Path, *, cancel: CancelToken | None = None) -> Report:
    """Evaluate what :func:`predict_cases` left in a folder, and write the report there.

    Args:
        dataset: the data set.
        folder: receives ``report.json``, ``report.csv`` and ``report.html``.
        cancel: stops the work.

    Returns:
        The report. Results of another model, or of cases that are no longer asked for, count if they lie there.

    Raises:
        BadInputError: there is no result.
        CancelledError: ``cancel`` was set.
    """
    report = evaluate_folders(
        folder / PREDICTIONS,
        folder / REFERENCES,
        class_names=dataset.classes,
        ignored=dataset.ignored,
        missing="refuse",
        pictures=False,
        title=f"{dataset.name}",
        task=dataset.task,
        cancel=cancel,
    )
    write_report(report, folder)
    return report


def newest_report(dataset: RawDataset, folder: Path, *, cancel: CancelToken | None = None) -> Report:
    """The report of what lies in a folder: the one that is there, unless predictions or labels changed since.

    Args:
        dataset: the data set.
        folder: as for :func:`report_cases`.
        cancel: stops the work.

    Returns:
        The report.

    Raises:
        BadInputError: there is no result.
        CancelledError: ``cancel`` was set.
    """
    measured = {"inputs": _inputs_of(dataset, folder)}
    if try_read_json(folder / MEASURED_FILE) == measured and (folder / REPORT_FILE).is_file():
        (report,) = read_reports(folder).values()
        return report
    report = report_cases(dataset, folder, cancel=cancel)
    write_text(folder / MEASURED_FILE, json_text(measured))
    return report


def _inputs_of(dataset: RawDataset, folder: Path) -> str:
    """A hash of everything that a report depends on."""
    digest = hashlib.sha256(json_text([__version__, dataset.task, dataset.classes, dataset.ignored]).encode())
    for part in (PREDICTIONS, REFERENCES):
        for path in sorted((folder / part).iterdir()) if (folder / part).is_dir() else ():
            if path.is_file() and path.suffix != ".json" and not path.name.startswith("."):
                digest.update(f"{part}/{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
