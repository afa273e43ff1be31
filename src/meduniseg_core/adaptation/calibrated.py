"""Where a model goes whose weights are the same and whose description is another: calibrated, or postprocessed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.paths import expanded
from meduniseg_core.weights import ActiveModels, Model, ModelInfo, PackRegistry, Registry, StorageType, save_model
from meduniseg_core.weights.calibration import Calibration
from meduniseg_core.weights.container import SUFFIX


@dataclass(frozen=True)
class Destination:
    """A file (``path``), or an installed model (``name``)."""

    name: str
    path: Path | None = None


def destination_for(model: Model, output: str | None, *, replace: bool = False) -> Destination:
    """Decide, before anything is computed, where the calibrated model goes.

    Args:
        model: the model.
        output: a new name or a file; None: it takes its own place.
        replace: whether a file or model of that name may be replaced.

    Returns:
        The place.

    Raises:
        UsageError: something is in the way, or others rely on the file as it is.
    """
    registry = Registry()
    if output is not None and (output.endswith(SUFFIX) or Path(output).name != output):
        path = expanded(output)
        if path.suffix != SUFFIX:
            raise UsageError(f"{output}: a model file's name ends in {SUFFIX}; choose such a name.")
        if path.exists() and not replace:
            raise UsageError(f"{output} exists already; choose another name or give --replace.")
        return Destination(model.info.name, path)
    installed = model.path is not None and model.path.parent in (registry.folder, registry.shipped)
    if output is not None:
        if output in registry.names() and not replace:
            raise UsageError(f"There is a model '{output}' already; choose another name or give --replace.")
        return Destination(output)
    if not installed:
        return Destination(model.info.name, model.path)
    if model.path is not None and model.path.parent == registry.shipped:
        raise UsageError(
            f"{model.info.name} comes with the program and stays as it is; name a copy with --output NAME."
        )
    relying = [entry.name for entry in PackRegistry().list() if entry.info and entry.info.base_sha256 == model.sha256]
    relying += [f"task {task}" for task, name in ActiveModels().models().items() if name == model.info.name]
    if relying:
        raise UsageError(
            f"{model.info.name} is in use as it is ({', '.join(relying)}), and a calibrated model is another file; "
            "name a copy with --output NAME."
        )
    return Destination(model.info.name)


def keep_calibrated(model: Model, calibration: Calibration, destination: Destination) -> tuple[Path, str]:
    """Write a calibrated model.

    Args:
        model: the model.
        calibration: of it.
        destination: of :func:`destination_for`.

    Returns:
        The file, and its sha256.
    """
    return keep_model(model, model.info.model_copy(update={"calibration": calibration}), destination)


def keep_model(model: Model, info: ModelInfo, destination: Destination) -> tuple[Path, str]:
    """Write a model with the same weights and another description.

    Args:
        model: the model.
        info: the new description; its name becomes the destination's.
        destination: of :func:`destination_for`.

    Returns:
        The file, and its sha256.
    """
    info = info.model_copy(update={"name": destination.name})
    state = model.network.state_dict()
    storage = storage_of(state)
    if destination.path is not None:
        return destination.path, save_model(destination.path, info, state, storage)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{destination.name}{SUFFIX}"
        sha256 = save_model(path, info, state, storage)
        return Registry().import_file(path, sha256=sha256, replace=True).path, sha256


def storage_of(state: Mapping[str, Tensor]) -> StorageType:
    """Tell in which type weights can be stored without changing them.

    Args:
        state: the weights, float32.

    Returns:
        fp16 where every value is one of half precision, else fp32.
    """
    return "fp16" if all(torch.equal(value.half().float(), value) for value in state.values()) else "fp32"
