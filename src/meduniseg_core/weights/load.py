"""Loads a model by its name or from its file."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.paths import expanded
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.model_file import SUFFIX, Model, read_info, read_model
from meduniseg_core.weights.registry import Registry

DEFAULT_MODEL = "starter"
_PICKLED = {".model", ".pth", ".pt", ".ckpt"}


def load_model(name_or_path: str | Path = DEFAULT_MODEL, *, registry: Registry | None = None) -> Model:
    """Load a model: on the CPU, in float32, in evaluation mode.

    Args:
        name_or_path: the name of an installed model, or a file: a ``Path``, or a string that contains a folder or ends
            in ``.safetensors``.
        registry: where names are looked up; by default the user's models and those shipped with the program.

    Returns:
        The model.

    Raises:
        UsageError: no model of this name is installed.
        BadInputError: the file cannot be used.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in _PICKLED:
        raise BadInputError(
            f"{path}: a pickled checkpoint is not loaded directly; convert it once with 'meduniseg models import'."
        )
    file = _file_of(name_or_path)
    return read_model(file) if file is not None else (registry or Registry()).load(str(name_or_path))


def find_model(name_or_path: str | Path) -> tuple[Path, ModelInfo]:
    """Find what :func:`load_model` would load, reading only the file's header.

    Args:
        name_or_path: as for :func:`load_model`.

    Returns:
        The model's file and its description.

    Raises:
        UsageError: no model of this name is installed.
        BadInputError: the file cannot be used.
    """
    file = _file_of(name_or_path)
    if file is not None:
        return file, read_info(file)
    registry = Registry()
    return registry.find(str(name_or_path)).path, registry.info(str(name_or_path))


def _file_of(name_or_path: str | Path) -> Path | None:
    """The file; None for the name of a model."""
    path = Path(name_or_path)
    is_file = isinstance(name_or_path, Path) or path.suffix == SUFFIX or path.name != name_or_path
    return expanded(path) if is_file else None
