"""Cross-validation: a network for each fold, each measured on the cases that it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.errors import UsageError
from meduniseg_core.evaluation import Report
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.loop import train
from meduniseg_core.training.measure import held_back_cases, predict_cases, report_cases
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import load_model

FOLDS = 5
REPORTS = "crossvalidation"


@dataclass(frozen=True)
class CrossValidation:
    """The model file of each fold, and the report of each task over all its cases, each predicted by its own fold's."""

    models: tuple[Path, ...]
    reports: dict[str, Report]


def fold_config(config: TrainingConfig, fold: int) -> TrainingConfig:
    """The run of one fold: its folder is ``fold_N`` in the configuration's, its model NAME-fold-N.

    Args:
        config: the configuration; five folds where it does not say how many.
        fold: which of them is held back, from 0.

    Returns:
        A changed copy.

    Raises:
        UsageError: there is no such fold.
    """
    folds = config.folds or FOLDS
    if not 0 <= fold < folds:
        raise UsageError(f"There are the folds 0 to {folds - 1}, not {fold}; give one of them.")
    update = {"folds": folds, "fold": fold, "name": f"{config.name}-fold-{fold}"}
    return config.model_copy(update={**update, "output": config.output / f"fold_{fold}"})


def cross_validate(
    config: TrainingConfig, *, events: EventSink = ignore, cancel: CancelToken | None = None
) -> CrossValidation:
    """Train every fold and measure it on its own cases. What is done stays done: a second call goes on.

    Args:
        config: the configuration.
        events: receives progress and metrics.
        cancel: stops the work; what is trained of a fold is kept.

    Returns:
        Models and reports; the reports are in ``crossvalidation/TASK`` in the run's folder.

    Raises:
        BadInputError: the data or the configuration cannot be used.
        CancelledError: ``cancel`` was set.
    """
    runs = [fold_config(config, fold) for fold in range(config.folds or FOLDS)]
    models = [trained(run, events=events, cancel=cancel) for run in runs]
    datasets = [RawDataset.open(folder) for folder in config.datasets]
    for run, path in zip(runs, models, strict=True):
        predictor = Predictor(load_model(path), run.device, run.precision)
        for dataset in datasets:
            cases = held_back_cases(run, dataset)
            events(Message("info", f"{run.name}: {dataset.task}, {len(cases)} held-out cases."))
            predict_cases(
                predictor, dataset, cases, config.output / REPORTS / dataset.task, events=events, cancel=cancel
            )
    reports = {
        dataset.task: report_cases(dataset, config.output / REPORTS / dataset.task, cancel=cancel)
        for dataset in datasets
    }
    return CrossValidation(tuple(models), reports)


def trained(config: TrainingConfig, *, events: EventSink = ignore, cancel: CancelToken | None = None) -> Path:
    """The model of a run: trained if it is not there yet, from the last checkpoint if there is one.

    Args:
        config: the run's configuration.
        events: receives progress and metrics.
        cancel: stops the work; a checkpoint is written first.

    Returns:
        The model file.

    Raises:
        BadInputError: the data or the configuration cannot be used, or the run was begun with another one.
        CancelledError: ``cancel`` was set.
    """
    path = model_path(config)
    if path.is_file():
        return path
    begun = any(config.output.glob("checkpoint_*.safetensors"))
    return train(config, resume=begun, events=events, cancel=cancel).model
