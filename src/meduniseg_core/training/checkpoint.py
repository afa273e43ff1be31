"""The state of a run in one safetensors file: whole or not there, never pickled.

Tensors: ``network.*``, ``optimizer.KEY.*`` (momentum_buffer, or AdamW's exp_avg, exp_avg_sq, step), ``rng`` (torch's
generator). The JSON in the header holds the rest. The batches are a function of the iteration's number, so that number
is the sampler's state.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path

LAST = "checkpoint_last.safetensors"
BEST = "checkpoint_best.safetensors"


class RunState(BaseModel):
    """Where a run stands, besides its tensors."""

    model_config = ConfigDict(extra="forbid")

    iteration: int = 0
    epoch: int = 0
    best_dice: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    fingerprint: str = Field(description="hash of everything that must not change between start and resume")


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    """Write atomically: after a kill at any moment the file holds the old state or the new one."""
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
    tensors["rng"] = torch.get_rng_state()
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"state": state.model_dump_json()})


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str) -> RunState:
    """Put the saved state into ``network`` and ``optimizer``.

    BadInputError where there is no checkpoint, where it is damaged, or where it belongs to another configuration:
    a resume never starts over silently.
    """
    if not path.is_file():
        raise BadInputError(f"{path}: there is no checkpoint to resume from; start the run without --resume.")
    try:
        with safe_open(path, framework="pt") as stream:
            state = RunState.model_validate_json((stream.metadata() or {}).get("state", ""))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValidationError, OSError, json.JSONDecodeError) as error:
        raise BadInputError(f"{path}: the checkpoint is damaged ({error}); start the run anew.") from error
    if state.fingerprint != fingerprint:
        raise BadInputError(
            f"{path}: the checkpoint belongs to another configuration or other data; "
            "resume with the config it was started with, or choose another output folder."
        )
    network.load_state_dict(_part(tensors, "network."))
    parameters = dict(network.named_parameters())
    for full_name, value in _part(tensors, "optimizer.").items():
        key, _, name = full_name.partition(".")
        # AdamW keeps its step counts on the CPU
        device = torch.device("cpu") if key == "step" else parameters[name].device
        optimizer.state[parameters[name]][key] = value.to(device)
    torch.set_rng_state(tensors["rng"])
    return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
