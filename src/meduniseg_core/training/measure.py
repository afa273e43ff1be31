"""Measures a model on the cases of a data set: segments what has no result yet, and writes a report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from meduniseg_core.evaluation import Report, evaluate_folders, write_report
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path
from meduniseg_core.images import read_image
from meduniseg_core.images.formats import ending_of
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.prepare import CASES_FILE
from meduniseg_core.training.split import read_splits

PREDICTIONS, REFERENCES = "predictions", "references"


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
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> None:
    """Segment cases that have labels; a case whose result is there already is passed over.

    Args:
        predictor: of a model that has the data set's task.
        dataset: the data set.
        cases: its cases.
        folder: receives ``predictions/CASE.ext``, and the labels as ``references/CASE.ext``.
        events: receives progress (stage "cases").
        cancel: stops the work.

    Raises:
        BadInputError: a case cannot be segmented.
        CancelledError: ``cancel`` was set.
    """
    began = time.monotonic()
    labelled = [case for case in cases if case.label is not None]
    for number, case in enumerate(labelled):
        events(Progress("cases", number, len(labelled), time.monotonic() - began, case.case))
        image = read_image(case.images)
        target = folder / PREDICTIONS / f"{case.case}{'.png' if image.is_2d else '.nii.gz'}"
        if not target.is_file():
            found = predictor.segment(image, dataset.task, events=ignore, cancel=cancel)[dataset.task]
            found.save(target)
        assert case.label is not None
        reference = folder / REFERENCES / f"{case.case}{ending_of(case.label)}"
        if not reference.is_file():
            reference.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(reference) as temporary:
                shutil.copyfile(case.label, temporary)


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
