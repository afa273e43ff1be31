"""Ablations: a suite of training configurations under one budget, trained over several seeds and measured alike.

A suite is a TOML file. What is done stays done: a model that is there is not trained again, a case that is segmented
not segmented again, so a suite can be stopped and continued, and divided among machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from meduniseg_core.errors import BadInputError, MedUniSegError, UsageError
from meduniseg_core.evaluation import Report
from meduniseg_core.evaluation.gaps import REPORT_FILE, read_reports
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.inference import Predictor
from meduniseg_core.model.peer_table import PEERS
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.structured_text import read_toml
from meduniseg_core.training.ablation_record import Cases, check_unchanged, damaged_model_means, write_training_record
from meduniseg_core.training.config import TrainingConfig, resolved
from meduniseg_core.training.config_check import check_config, check_named_tasks
from meduniseg_core.training.cross_validation import trained
from meduniseg_core.training.measure import held_back_cases, predict_cases, report_cases
from meduniseg_core.training.standing import model_path
from meduniseg_core.validation import NAME_PATTERN, first_fault
from meduniseg_core.weights import load_model

BUDGET = ("epochs", "iterations_per_dataset", "datasets")
"""Settings that are the suite's, so that no run has another budget than the others."""
REPORTS = "reports"
_REMEDY = "remove all files report.* there and run 'meduniseg ablate' again, which makes them anew"
_OWN = ("name", "output", "seed")
"""Settings that follow from the suite."""
_FILES = ("pretrained_weights", "init", "class_embeddings")
_PATHS = ("datasets", "cache", *_FILES)


class SuiteRun(BaseModel):
    """One configuration: what differs from the suite's ``base``, table by table.

    ``each``: a network of its own for every data set, with the same iterations for each, instead of one for all; a
    network of another paper that has no form for a data set's images (volumes, 2D) leaves that set out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    each: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within_the_budget(self) -> Self:
        changed = [name for name in (*BUDGET, *_OWN, "cache") if name in self.settings]
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
    seeds: tuple[Annotated[int, Field(ge=0, lt=1 << 63)], ...] = Field(min_length=1)
    reference: str
    cases: Cases = "test"
    base: dict[str, Any]
    runs: tuple[SuiteRun, ...] = Field(min_length=1)
    tables: tuple[SuiteTable, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [run.name for run in self.runs]
        if len(set(names)) < len(names):
            raise ValueError("two runs have the same name")
        own = [name for name in _OWN if name in self.base]
        if own:
            raise ValueError(f"base.{own[0]}: it follows from the suite's name, output and seeds; leave it out of base")
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
    # what a run merges into must be what the file says, with paths that no longer depend on the file's place
    suite = suite.model_copy(update={"base": _with_paths(suite.base, TrainingConfig.from_settings(base, path))})
    datasets = {str(folder): RawDataset.open(Path(folder)) for folder in suite.base["datasets"]}
    runs = []
    for run in suite.runs:
        try:
            runs.append(_checked(suite, run, datasets, path))
        except MedUniSegError as error:
            raise BadInputError(f"{path}: run {run.name}: {str(error).removeprefix(f'{path}: ')}") from error
    return suite.model_copy(update={"runs": tuple(runs)})


def _checked(suite: Suite, run: SuiteRun, datasets: Mapping[str, RawDataset], path: Path) -> SuiteRun:
    """A run with absolute paths; an error where it cannot be trained: before others are, for hours."""
    merged = _merged(suite.base, run.settings)
    by_task = {name: merged[name] for name in ("plan", "absence", "task_shares") if isinstance(merged.get(name), dict)}
    check_named_tasks([dataset.task for dataset in datasets.values()], **by_task)
    listed = trainings(suite, [run.name], seeds=suite.seeds[:1], source=path)
    if not listed:
        raise BadInputError("Its network is for none of the data sets' images; leave the run out.")
    for one in listed:
        check_config(one.config, [datasets[str(folder)] for folder in one.config.datasets])
        if suite.cases == "validation" and not (one.config.folds or one.config.validation_fraction):
            raise BadInputError(
                'A validation_fraction of 0 leaves no validation cases to measure on; set cases = "test".'
            )
        for name in _FILES:
            value = getattr(one.config, name)
            if value is not None and Path(value).is_absolute() and not Path(value).is_file():
                raise BadInputError(f"There is no file {value}, which {name} names; correct the path.")
    return run.model_copy(update={"settings": _with_paths(run.settings, listed[0].config)})


def _with_paths(settings: Mapping[str, Any], checked: TrainingConfig) -> dict[str, Any]:
    """Settings with the paths that a configuration found for them."""
    found = checked.model_dump(mode="json", include=set(_PATHS))
    return {**settings, **{name: found[name] for name in _PATHS if name in settings}}


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
    runs = [suite.run(name) for name in dict.fromkeys(only)] or list(suite.runs)
    datasets = [str(folder) for folder in suite.base["datasets"]]
    apart = {run.name: [[dataset] for dataset in _served(suite, run, datasets)] for run in runs if run.each}
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
        for own in apart.get(run.name, [datasets])
    ]


def _served(suite: Suite, run: SuiteRun, datasets: list[str]) -> list[str]:
    """The data sets for whose images a run's network has a form."""
    network = _merged(suite.base, run.settings).get("network")
    peer = PEERS.get(str(network.get("method"))) if isinstance(network, dict) else None
    return [one for one in datasets if peer is None or RawDataset.open(Path(one)).dimension in peer.dimensions]


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
    for one in listed:
        check_training(suite, one)
    if suite.cases == "test":
        for folder in suite.base["datasets"]:
            _cases(suite, RawDataset.open(Path(folder)), listed[0].config)
    for number, one in enumerate(listed, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        datasets = [RawDataset.open(folder) for folder in one.config.datasets]
        missing = [dataset for dataset in datasets if not (one.reports / dataset.task / REPORT_FILE).is_file()]
        if not missing:
            continue
        events(Message("info", f"{number} of {len(listed)}: {one.config.name}."))
        new = not model_path(one.config).is_file()
        path = trained(one.config, events=events, cancel=cancel)
        if new:
            write_training_record(one.config, suite.cases)
        with damaged_model_means(path):
            model = load_model(path)
        predictor = Predictor(model, one.config.device, one.config.precision)
        for dataset in missing:
            folder = one.reports / dataset.task
            predict_cases(predictor, dataset, _cases(suite, dataset, one.config), folder, events=events, cancel=cancel)
            try:
                report_cases(dataset, folder, cancel=cancel)
            except BadInputError as error:
                raise BadInputError(
                    f"{folder} cannot be evaluated ({str(error).rstrip('.')}); remove what is damaged there, with its "
                    "JSON file, and run the suite again, which makes it anew."
                ) from error


def check_training(suite: Suite, one: Training) -> None:
    """Refuse a training that was done with other settings than the suite's present ones.

    Args:
        suite: the suite.
        one: one of its trainings, done or not.

    Raises:
        BadInputError: it was.
    """
    check_unchanged(one.config, suite.cases, suite.output, one.reports.parent)


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


def suite_tasks(suite: Suite) -> dict[str, int]:
    """The tasks of a suite's data sets.

    Args:
        suite: the suite.

    Returns:
        Their names, in the order of the data sets, with the dimension of their images.

    Raises:
        BadInputError: a data set is not there.
    """
    opened = [RawDataset.open(Path(folder)) for folder in suite.base["datasets"]]
    return {dataset.task: dataset.dimension for dataset in opened}


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
                found.setdefault(run.name, {})[seed] = read_reports(folder, remedy=_REMEDY)
    return found
