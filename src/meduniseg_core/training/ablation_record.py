"""What a finished training of an ablation was trained and measured with.

Of a suite that was edited since, a table would mix budgets. The record lies beside the model; runs of versions that
kept none are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import write_text
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.config_check import OF_THE_MACHINE
from meduniseg_core.validation import read_as

RECORD_FILE = "ablation.json"
_FILES = ("init", "pretrained_weights", "class_embeddings")  # their folders may move

Cases = Literal["test", "validation"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: Cases
    config: TrainingConfig


def write_training_record(config: TrainingConfig, cases: Cases) -> None:
    """Say beside a model what it was trained and is measured with.

    Args:
        config: the training's configuration.
        cases: the cases that it is measured on.
    """
    write_text(config.output / RECORD_FILE, _Record(cases=cases, config=config).model_dump_json(indent=1) + "\n")


def check_unchanged(config: TrainingConfig, cases: Cases, suite: Path, folder: Path) -> None:
    """Refuse a suite that asks for something else than what lies in a run's folder.

    Args:
        config: the training's configuration, as the suite has it now.
        cases: the cases that it asks for.
        suite: the suite's output, for errors.
        folder: what to remove to begin the run anew, for errors.

    Raises:
        BadInputError: the training was done with another setting, or its record cannot be read.
    """
    path = config.output / RECORD_FILE
    if not path.is_file():
        return
    before = read_as(path, _Record, "the record of a training", f"remove {folder} and train it again")
    changed = next(_differing(_compared(before.config, before.cases), _compared(config, cases)), None)
    if changed is not None:
        name, then, now = changed
        raise BadInputError(
            f"{folder} was trained and measured with {name} = {then}, and the suite says {now} now; take that back, "
            f"give the suite another output than {suite}, or remove the folder to train it again."
        )


@contextmanager
def damaged_model_means(path: Path) -> Iterator[None]:
    """Around the reading of a run's model: the remedy for a damaged one.

    Args:
        path: the model.

    Yields:
        Nothing.

    Raises:
        BadInputError: the model cannot be read.
    """
    try:
        yield
    except BadInputError as error:
        raise BadInputError(
            f"{path} is damaged; remove it and run the suite again, which makes it anew from the run's checkpoint."
        ) from error


def _compared(config: TrainingConfig, cases: Cases) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude=set(OF_THE_MACHINE))
    files = {name: None if settings[name] is None else Path(settings[name]).name for name in _FILES}
    return {**settings, **files, "datasets": [folder.name for folder in config.datasets], "cases": cases}


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The settings that differ: place, what was there and what is."""
    for name in dict.fromkeys((*before, *now)):
        one, other = before.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differing(one, other, f"{place}{name}.")
        elif one != other:
            yield f"{place}{name}", one, other
