"""Ablations: a suite of training configurations under one budget, trained over several seeds and measured alike.

A suite is a TOML file. What is done stays done: a model that is there is not trained again, a case that is segmented
not segmented again, so a suite can be stopped and continued, and divided among machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.evaluation import Report
from meduniseg_core.evaluation.gaps import REPORT_FILE, read_reports
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.structured_text import read_toml
from meduniseg_core.training.config import TrainingConfig, resolved
from meduniseg_core.training.cross_validation import trained
from meduniseg_core.training.measure import held_back_cases, predict_cases, report_cases
from meduniseg_core.validation import NAME_PATTERN, first_fault
from meduniseg_core.weights import load_model

BUDGET = ("epochs", "iterations_per_dataset", "datasets")
"""Settings that are the suite's, so that no run has another budget than the others."""
REPORTS = "reports"
_PATHS = ("datasets", "cache", "pretrained_weights", "init", "class_embeddings")


class SuiteRun(BaseModel):
    """One configuration: what differs from the suite's ``base``, table by table.

    ``each``: a network of its own for every data set, with the same iterations for each, instead of one for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    each: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within_the_budget(self) -> Self:
        changed = [name for name in (*BUDGET, "name", "output", "cache", "seed") if name in self.settings]
        if changed:
            raise ValueError(f"{changed[0]} is the suite's, the same for all runs")
        return self


class SuiteTable(BaseModel):
    """One table of the paper: its runs in order. ``rows`` are the data sets (table 3) or the runs (the others)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    title: str
    rows: Literal["sets", "runs"] = "runs"
    runs: tuple[str, ...] = Field(min_length=1)


class Suite(BaseModel):
    """What an ablation trains and shows. ``reference`` is the run that the others are compared with.

    ``cases`` are what runs are measured on: the data sets' test cases, or each run's own validation cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    output: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    reference: str
    cases: Literal["test", "validation"] = "test"
    base: dict[str, Any]
    runs: tuple[SuiteRun, ...] = Field(min_length=1)
    tables: tuple[SuiteTable, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [run.name for run in self.runs]
        if len(set(names)) < len(names):
            raise ValueError("two runs have the same name")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is there twice")
        asked = [self.reference, *(name for table in self.tables for name in table.runs)]
        unknown = [name for name in asked if name not in names]
        if unknown:
            raise ValueError(f"there is no run '{unknown[0]}'")
        return self

    def run(self, name: str) -> SuiteRun:
        """Find a run.

        Args:
            name: its name.

        Returns:
            The run.

        Raises:
            UsageError: there is none of this name.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise UsageError(f"The suite has no run '{name}'; it has: {', '.join(run.name for run in self.runs)}.")


@dataclass(frozen=True)
class Training:
    """A training that a suite asks for, with what it is measured on and where the reports go."""

    run: SuiteRun
    seed: int
    config: TrainingConfig
    reports: Path


def read_suite(path: Path) -> Suite:
    """Read and validate a suite, with the configuration of every run. Relative paths are relative to the file.

    Args:
        path: a TOML file.

    Returns:
        The suite.

    Raises:
        BadInputError: the file is not TOML, or a setting is wrong; the message says which.
    """
    path = Path(path)
    raw = read_toml(path)
    if isinstance(raw.get("output"), str):
        raw["output"] = resolved(raw["output"], path.resolve().parent, path)
    try:
        suite = Suite.model_validate(raw)
    except ValidationError as error:
        raise BadInputError(f"{path}: {first_fault(error)}; correct the suite.") from error
    base = {**suite.base, "name": suite.name, "output": str(suite.output)}
    checked = TrainingConfig.from_settings(base, path)
    absolute = {name: value for name, value in checked.model_dump(mode="json").items() if name in suite.base}
    # what a run merges into must be what the file says, with paths that no longer depend on the file's place
    merged: dict[str, Any] = dict(suite.base)
    merged.update({name: absolute[name] for name in _PATHS if name in absolute})
    suite = suite.model_copy(update={"base": merged})
    for run in suite.runs:
        for training in trainings(suite, [run.name], source=path):
            _ = training.config
    return suite


def trainings(
    suite: Suite, only: Sequence[str] = (), *, seeds: Sequence[int] | None = None, source: Path | None = None
) -> list[Training]:
    """List what a suite trains, seed by seed, so that the first seed's tables are whole as early as can be.

    Args:
        suite: the suite.
        only: names of runs; none for all.
        seeds: some of the suite's; None for all.
        source: the suite's file, for errors.

    Returns:
        The trainings.

    Raises:
        UsageError: there is no run of such a name, or no such seed.
        BadInputError: a run's settings are wrong.
    """
    unknown = sorted(set(seeds or ()) - set(suite.seeds))
    if unknown:
        raise UsageError(f"The suite has no seed {unknown[0]}; it has: {', '.join(map(str, suite.seeds))}.")
    runs = [suite.run(name) for name in only] or list(suite.runs)
    datasets = [str(folder) for folder in suite.base["datasets"]]
    return [
        Training(
            run,
            seed,
            _config(suite, run, seed, own, source or suite.output),
            suite.output / run.name / f"seed_{seed}" / REPORTS,
        )
        for seed in suite.seeds
        if not seeds or seed in seeds
        for run in runs
        for own in ([[dataset] for dataset in datasets] if run.each else [datasets])
    ]


def _config(suite: Suite, run: SuiteRun, seed: int, datasets: list[str], source: Path) -> TrainingConfig:
    folder = suite.output / run.name / f"seed_{seed}"
    name = f"{suite.name}-{run.name}-{seed}"
    if run.each:
        task = RawDataset.open(Path(datasets[0])).task
        folder, name = folder / task, f"{name}-{task}"
    raw = {
        **_merged(suite.base, run.settings),
        "name": name,
        "datasets": datasets,
        "output": str(folder),
        "seed": seed,
    }
    if run.each:  # settings of single tasks belong to the network that has the task
        raw.pop("task_shares", None)
        for part in ("plan", "absence"):
            if part in raw:
                raw[part] = {task: value for task, value in raw[part].items() if task == folder.name}
    return TrainingConfig.from_settings(raw, source)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        for name, value in over.items()
    }
    return {**base, **both}


def run_suite(
    suite: Suite,
    only: Sequence[str] = (),
    *,
    seeds: Sequence[int] | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> None:
    """Train and measure what is not done yet.

    Args:
        suite: the suite.
        only: names of runs; none for all.
        seeds: some of the suite's; None for all.
        events: receives progress and messages.
        cancel: stops the work; a training saves a checkpoint first.

    Raises:
        UsageError: there is no run of such a name.
        BadInputError: a data set cannot be used, or a run was begun with other settings.
        CancelledError: ``cancel`` was set.
    """
    listed = trainings(suite, only, seeds=seeds)
    for number, one in enumerate(listed, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        datasets = [RawDataset.open(folder) for folder in one.config.datasets]
        missing = [dataset for dataset in datasets if not (one.reports / dataset.task / REPORT_FILE).is_file()]
        if not missing:
            continue
        events(Message("info", f"{number} of {len(listed)}: {one.config.name}."))
        predictor = Predictor(
            load_model(trained(one.config, events=events, cancel=cancel)), one.config.device, one.config.precision
        )
        for dataset in missing:
            folder = one.reports / dataset.task
            predict_cases(predictor, dataset, _cases(suite, dataset, one.config), folder, events=events, cancel=cancel)
            report_cases(dataset, folder, cancel=cancel)


def _cases(suite: Suite, dataset: RawDataset, config: TrainingConfig) -> list[RawCase]:
    if suite.cases == "test":
        found = [case for case in dataset.cases("Ts") if case.label is not None]
    else:
        found = held_back_cases(config, dataset)
    if not found:
        raise BadInputError(
            f"{dataset.name} has no {suite.cases} cases with labels; set cases = "
            f'"{"validation" if suite.cases == "test" else "test"}" in the suite, or leave the data set out.'
        )
    return found


def suite_tasks(suite: Suite) -> list[str]:
    """The tasks of a suite's data sets.

    Args:
        suite: the suite.

    Returns:
        Their names, in the order of the data sets.

    Raises:
        BadInputError: a data set is not there.
    """
    return [RawDataset.open(Path(folder)).task for folder in suite.base["datasets"]]


def suite_reports(suite: Suite) -> dict[str, dict[int, dict[str, Report]]]:
    """Read the reports that are there.

    Args:
        suite: the suite.

    Returns:
        The report of every run, seed and task.

    Raises:
        BadInputError: a report cannot be read.
    """
    found: dict[str, dict[int, dict[str, Report]]] = {}
    for run in suite.runs:
        for seed in suite.seeds:
            folder = suite.output / run.name / f"seed_{seed}" / REPORTS
            if any(folder.glob(f"*/{REPORT_FILE}")):
                found.setdefault(run.name, {})[seed] = read_reports(folder)
    return found
