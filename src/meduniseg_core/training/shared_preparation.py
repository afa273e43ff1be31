"""Hands a prepared run to the other processes: a text with the plans and the names of the preprocessed cases."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.preprocessing import CachedCase, TaskPlan
from meduniseg_core.preprocessing.cached_cases import CaseRecord
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.prepare import Prepared, PreparedTask
from meduniseg_core.validation import first_fault
from meduniseg_core.weights import ModelInfo


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")

    case: str
    key: str


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")

    plan: TaskPlan
    train: list[_Case]
    validation: list[_Case]


class _Preparation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    info: ModelInfo
    config_hash: str
    tasks: list[_Task]


def write_preparation(prepared: Prepared) -> str:
    """Describe a prepared run to the other processes.

    Args:
        prepared: the run; its cases are in the configuration's cache.

    Returns:
        JSON.
    """
    tasks = [
        _Task(plan=task.plan, train=_named(task.train), validation=_named(task.validation)) for task in prepared.tasks
    ]
    return _Preparation(info=prepared.info, config_hash=prepared.config_hash, tasks=tasks).model_dump_json()


def read_preparation(text: str, config: TrainingConfig) -> Prepared:
    """Read the run that another process prepared.

    Args:
        text: from :func:`write_preparation`.
        config: the run's configuration.

    Returns:
        The run.

    Raises:
        BadInputError: a preprocessed case is not in this machine's cache, or the other process is of another version.
    """
    try:
        content = _Preparation.model_validate_json(text)
    except ValidationError as error:
        raise BadInputError(
            f"The first process describes the run in a way that this one does not know ({first_fault(error)}); "
            "install the same version on all machines."
        ) from error
    tasks = tuple(
        PreparedTask(
            task.plan,
            tuple(_found(config.cache / task.plan.task, case) for case in task.train),
            tuple(_found(config.cache / task.plan.task, case) for case in task.validation),
        )
        for task in content.tasks
    )
    return Prepared(info=content.info, tasks=tasks, config_hash=content.config_hash)


def _named(cases: tuple[CachedCase, ...]) -> list[_Case]:
    return [_Case(case=case.case, key=case.record.key) for case in cases]


def _found(folder: Path, case: _Case) -> CachedCase:
    path = folder / f"{case.case}.json"
    try:
        record = CaseRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _missing(path) from error
    if record.key != case.key:
        raise _missing(path)
    return CachedCase(folder, record)


def _missing(path: Path) -> BadInputError:
    return BadInputError(
        f"{path}: this process does not find the case that the first one prepared; put the cache on a disk that all "
        "machines share, or copy it to each."
    )
