"""Measures a training's model on the test cases of its data sets; what is measured already is not measured again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import Report
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.measure import newest_report, predict_cases
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import load_model

REPORTS = "test"


@dataclass(frozen=True)
class RunReport:
    """The model, the folder of the reports, the report of each task, and the tasks that have no test cases."""

    model: Path
    folder: Path
    reports: dict[str, Report]
    untested: tuple[str, ...]


def report_run(
    config: TrainingConfig,
    *,
    model: Path | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> RunReport:
    """Segment the test cases (``imagesTs``, ``labelsTs``) of a training's data sets and evaluate the results.

    A case is segmented again where its image or the model changed, and a report is made anew where a result or a label
    did. A second run does nothing.

    Args:
        config: the training's configuration.
        model: another model than the one that the training left in its folder.
        events: receives progress.
        cancel: stops the work between two cases.

    Returns:
        The reports; those of each task are in ``test/TASK`` in the run's folder.

    Raises:
        BadInputError: there is no model yet, a case cannot be segmented, or no data set has test cases.
        CancelledError: ``cancel`` was set.
    """
    path = model or model_path(config)
    if not path.is_file():
        raise BadInputError(f"{path}: there is no model yet; train it first with 'meduniseg train'.")
    folder = config.output / REPORTS
    datasets = [RawDataset.open(entry) for entry in config.datasets]
    cases = {dataset.task: [c for c in dataset.cases("Ts") if c.label is not None] for dataset in datasets}
    if not any(cases.values()):
        raise BadInputError(
            "None of the configuration's data sets has test cases with labels (imagesTs, labelsTs); use "
            "'meduniseg train --fold all' to measure on held-back training cases."
        )
    predictor = Predictor(load_model(path), config.device, config.precision)
    reports = {}
    for dataset in datasets:
        if not cases[dataset.task]:
            continue
        events(Message("info", f"{dataset.task}: {len(cases[dataset.task])} test cases."))
        own = folder / dataset.task
        predict_cases(predictor, dataset, cases[dataset.task], own, renew=True, events=events, cancel=cancel)
        reports[dataset.task] = newest_report(dataset, own, cancel=cancel)
    return RunReport(path, folder, reports, tuple(task for task, found in cases.items() if not found))
