"""Loading a model by its name or from its file: what scripts call first."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.paths import expanded
from meduniseg_core.weights.model_file import SUFFIX, Model, read_model
from meduniseg_core.weights.registry import Registry

DEFAULT_MODEL = "starter"
_PICKLED = {".model", ".pth", ".pt", ".ckpt"}


def load_model(name_or_path: str | Path = DEFAULT_MODEL, *, registry: Registry | None = None) -> Model:
    """Load a model: on the CPU, float32, evaluation mode.

    A ``Path``, a name with a folder in it or one ending in ``.safetensors`` is a file; anything else is the name of a
    model in the registry. UsageError for an unknown name, BadInputError for a file that cannot be used.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in _PICKLED:
        raise BadInputError(
            f"{path}: a pickled checkpoint is not loaded directly; convert it once with 'meduniseg models import'."
        )
    if isinstance(name_or_path, Path) or path.suffix == SUFFIX or path.name != name_or_path:
        return read_model(expanded(path))
    return (registry or Registry()).load(name_or_path)
