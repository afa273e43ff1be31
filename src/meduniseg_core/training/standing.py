"""How far a run is: whether its model is that of its present settings and data, and what to do where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.training.checkpoint import BEST, LAST, checkpoint_hash
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.log import LOG_FILE
from meduniseg_core.weights.model_file import read_info

CONFIG_HASH = "config_hash"
"""The key in a model's provenance."""
FORMER = "former"

Standing = Literal["finished", "begun", "new"]


def model_path(config: TrainingConfig) -> Path:
    """Where a run's model lies.

    Args:
        config: the run's configuration.

    Returns:
        The file, there or not.
    """
    return config.output / f"{config.name}.safetensors"


def standing_of(config: TrainingConfig, config_hash: str) -> Standing:
    """Find out how far a run is.

    Args:
        config: the run's configuration.
        config_hash: the hash of its present settings and data.

    Returns:
        "finished" if its model was trained with them, "begun" if a checkpoint was, else "new".
    """
    if _model_hash(config) == config_hash:
        return "finished"
    begun = any(checkpoint_hash(config.output / name) == config_hash for name in (LAST, BEST))
    return "begun" if begun else "new"


def move_former_run(config: TrainingConfig, events: EventSink = ignore) -> None:
    """Move model, checkpoints and log of other settings or data into ``former/HASH`` in the run's folder.

    Args:
        config: the run's configuration.
        events: is told where they are.
    """
    model = model_path(config)
    there = [path for path in (model, *(config.output / name for name in (LAST, BEST, LOG_FILE))) if path.is_file()]
    if not there:
        return
    hashes = (_model_hash(config), *(checkpoint_hash(config.output / name) for name in (LAST, BEST)))
    digest = next((found for found in hashes if found), "unknown")
    folder = config.output / FORMER / digest[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for path in there:
        path.replace(folder / path.name)
    events(Message("info", f"Settings or data changed since the last run; what it left is in {folder}."))


def _model_hash(config: TrainingConfig) -> str | None:
    path = model_path(config)
    if not path.is_file():
        return None
    try:
        found = read_info(path).provenance.get(CONFIG_HASH)
    except BadInputError:
        return None  # damaged, or not a model
    return found if isinstance(found, str) else None
