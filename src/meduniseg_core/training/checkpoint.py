"""A run's state in one safetensors file: written completely or not at all, never pickled.

Tensors: ``network.*``, ``optimizer.KEY.*`` (momentum_buffer, or AdamW's exp_avg, exp_avg_sq, step), ``rng`` (torch's
generator). The JSON in the header holds the rest and a checksum of the tensors. Batches are a function of the
iteration's number, so no other sampler state is needed.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from meduniseg_core.errors import BadInputError, is_out_of_memory, message_of
from meduniseg_core.files import atomic_path, check_regular

LAST = "checkpoint_last.safetensors"
BEST = "checkpoint_best.safetensors"


class RunState(BaseModel):
    """The progress of a run, besides its tensors."""

    model_config = ConfigDict(extra="forbid")

    iteration: int = 0
    epoch: int = 0
    best_dice: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    losses: dict[int, list[float]] = Field(default={}, description="by task, of the epoch that was broken off")
    gradients: dict[int, list[float]] | None = Field(default=None, description="lengths of gradients, likewise")
    scaling: dict[str, float] | None = Field(default=None, description="the gradient scaler's state, with fp16")
    config_hash: str = Field(
        validation_alias=AliasChoices("config_hash", "fingerprint"),
        description="of everything that must not change between start and resume; 'fingerprint' in older checkpoints",
    )


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    """Write a checkpoint atomically: if the process is killed, the file holds either the old state or the new one.

    Args:
        path: the file.
        network: the modules that learn.
        optimizer: the optimizer with its momenta and means.
        state: the run's progress.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
    tensors["rng"] = torch.get_rng_state()
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # without what is not there, which older versions do not know
    metadata = {"state": state.model_dump_json(exclude_none=True), "crc32": _checksum(contiguous)}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:
            raise _system_error(error) or error from error


def _system_error(error: SafetensorError) -> OSError | None:
    """The system's error (a full disk) that safetensors passes on as text."""
    code = re.search(r"\(os error (\d+)\)", str(error))
    return None if code is None else OSError(int(code[1]), os.strerror(int(code[1])))


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder has a checkpoint to resume from.

    Args:
        folder: the run's folder.

    Returns:
        True if there is a last or a best checkpoint; they are not read.
    """
    return any((folder / name).is_file() for name in (LAST, BEST))


def newest_checkpoint(folder: Path, config_hash: str) -> Path:
    """The checkpoint to resume from: the last one, or the best one if it is newer.

    It is the last one, too, if that is missing or damaged: loading it then reports this.

    Args:
        folder: the run's folder.
        config_hash: hash of the run's configuration.

    Returns:
        The file.
    """
    last, best = folder / LAST, folder / BEST
    try:
        ahead = _state_of(best)
        if ahead.config_hash != config_hash or (last.is_file() and _state_of(last).iteration >= ahead.iteration):
            return last
    except (SafetensorError, ValidationError, OSError):
        return last
    return best


def checkpoint_hash(path: Path) -> str | None:
    """The hash of the configuration that a checkpoint belongs to.

    Args:
        path: the file.

    Returns:
        The hash; None if there is no checkpoint, or it is damaged.
    """
    try:
        return _state_of(path).config_hash if path.is_file() else None
    except (SafetensorError, ValidationError, OSError):
        return None


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, config_hash: str) -> RunState:
    """Restore network, optimizer and random state from a checkpoint. A resume never silently starts over.

    Args:
        path: the file.
        network: the modules that learn; changed in place.
        optimizer: changed in place.
        config_hash: hash of the run's configuration.

    Returns:
        The run's progress.

    Raises:
        BadInputError: the checkpoint is missing, damaged, or belongs to another configuration.
    """
    if not path.is_file():
        raise BadInputError(f"{path}: there is no checkpoint to resume from; start the run without --resume.")
    check_regular(path)
    try:
        state = _state_of(path)
        with safe_open(path, framework="pt") as stream:
            checksum = (stream.metadata() or {}).get("crc32")
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValidationError, OSError) as error:
        raise _damaged(path, message_of(error)) from error
    if checksum not in (None, _checksum(tensors)):
        raise _damaged(path, "its checksum is wrong")
    if state.config_hash != config_hash:
        raise BadInputError(
            f"{path}: the checkpoint belongs to another configuration or other data; "
            "resume with the config it was started with, or choose another output folder."
        )
    try:
        _restore(tensors, network, optimizer)
    except (KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(path, message_of(error)) from error
    return state


def _damaged(path: Path, why: str) -> BadInputError:
    text = f"{path}: the checkpoint is damaged ({why})"
    return BadInputError(f"{text}; remove it, and start the run again or resume it from the other checkpoint there.")


def _restore(tensors: Mapping[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network.load_state_dict(_part(tensors, "network."))
    parameters = dict(network.named_parameters())
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for full_name, value in _part(tensors, "optimizer.").items():
        key, _, name = full_name.partition(".")
        # AdamW keeps its step counts on the CPU, unless it is fused
        device = torch.device("cpu") if key == "step" and not fused else parameters[name].device
        optimizer.state[parameters[name]][key] = value.to(device)
    torch.set_rng_state(tensors["rng"])


def _state_of(path: Path) -> RunState:
    """The run's progress, read from the header alone."""
    with safe_open(path, framework="pt") as stream:
        return RunState.model_validate_json((stream.metadata() or {}).get("state", ""))


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names and bytes. safetensors has no checksum, and a flipped bit makes a weight that looks like any
    other."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode("utf-8"), value)
        if tensors[name].numel():
            value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
