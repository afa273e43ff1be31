"""The pack file: one small ``.safetensors`` file that refines some tasks of one base model (docs/spec.md section 8)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.lora import Refinement, merge_lora
from meduniseg_core.model.meduniseg import MedUniSeg
from meduniseg_core.validation import NAME_PATTERN
from meduniseg_core.weights import container
from meduniseg_core.weights.container import Kind, Shapes, StorageType
from meduniseg_core.weights.model_file import Model, has_sane_sizes

FORMAT = "meduniseg-pack"
FORMAT_VERSION = 1
MAX_RANK = 1024


class PackInfo(BaseModel):
    """The metadata of a pack (JSON in the safetensors header).

    ``base_sha256`` is that of the base model's file; the pack is refused on any other. ``config`` is the base's, so
    that a pack can be checked without its base.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    licence: str = ""
    base: str
    base_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    config: ModelConfig
    tasks: tuple[str, ...] = Field(min_length=1)
    rank: int = Field(ge=1, le=MAX_RANK)
    alpha: float = Field(gt=0, lt=float("inf"))
    provenance: dict[str, Any] = Field(default_factory=dict, description="data sets, budget, seed, code version")


PACK = Kind("pack", FORMAT, FORMAT_VERSION, PackInfo)


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack ready to use. ``tensors`` (float32) are the state dict of a `Refinement`; ``sha256`` is that of the
    file."""

    info: PackInfo
    tensors: Mapping[str, Tensor]
    sha256: str
    path: Path | None = None

    def check_base(self, model: Model) -> None:
        """Refuse a model that is not the pack's base.

        Args:
            model: the model.

        Raises:
            BadInputError: it is another model, or the pack's description of it is wrong.
        """
        if self.info.base_sha256 != model.sha256:
            raise BadInputError(
                f"Pack {self.info.name} refines the model {self.info.base} ({self.info.base_sha256[:12]}...), and "
                f"{model.info.name} is another ({model.sha256[:12]}...); use that base, or refine this one again."
            )
        if self.info.config != model.info.config or not set(self.info.tasks) <= {p.task for p in model.info.tasks}:
            raise BadInputError(
                f"Pack {self.info.name} describes its base {model.info.name} wrongly; get the pack again."
            )


def save_pack(path: Path, info: PackInfo, tensors: Mapping[str, Tensor], dtype: StorageType = "fp32") -> str:
    """Write a pack atomically. Identical input gives an identical file.

    Args:
        path: the file; its name ends in ``.safetensors``.
        info: the pack's description.
        tensors: state dict of a `Refinement` that fits ``info.config`` and ``info.rank``.
        dtype: the type they are stored in.

    Returns:
        The file's sha256.

    Raises:
        BadInputError: the tensors do not fit or are not finite in ``dtype``, the name has another suffix, or the place
            cannot be written to.
    """
    path = Path(path)
    _check(path, info, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return container.write_container(path, PACK, info, tensors, dtype)


def read_pack_info(path: Path) -> PackInfo:
    """Read a pack's description from its file's header.

    Args:
        path: the pack file.

    Returns:
        The description.

    Raises:
        BadInputError: it is not a usable pack.
    """
    path = Path(path)
    return container.read_description(path, PACK, partial(_check, path))


def read_pack(path: Path) -> Pack:
    """Load a pack.

    Args:
        path: the pack file.

    Returns:
        The pack.

    Raises:
        BadInputError: it is not a usable pack.
    """
    path = Path(path)
    info, tensors, sha256 = container.read_container(path, PACK, partial(_check, path))
    return Pack(info, tensors, sha256, path)


def refined_network(model: Model, pack: Pack) -> MedUniSeg:
    """A copy of a model's network with a pack merged into its weights.

    Args:
        model: the pack's base; it does not change.
        pack: the pack.

    Returns:
        The refined network.

    Raises:
        BadInputError: the model is not the pack's base.
        UsageError: the model is an imported U-Net.
    """
    pack.check_base(model)
    network = copy.deepcopy(model.universal_network)
    with torch.random.fork_rng(devices=[]):  # a fresh refinement draws numbers, which the weights then replace
        refinement = Refinement(network, pack.info.rank, pack.info.alpha)
    refinement.load_state_dict(dict(pack.tensors))
    merge_lora(network)
    return network


def packs_by_task(model: Model, packs: Mapping[str, Pack]) -> dict[str, Pack]:
    """Check packs against the model and the tasks they are to be used for.

    Args:
        model: the model.
        packs: the pack of each task.

    Returns:
        A copy of ``packs``.

    Raises:
        UsageError: the model does not have one of the tasks, or its pack does not refine it.
        BadInputError: the model is not the base of a pack.
    """
    for task, pack in packs.items():
        model.info.task_index(task)
        pack.check_base(model)
        if task not in pack.info.tasks:
            raise UsageError(
                f"Pack {pack.info.name} does not refine the task '{task}'; it is for: {', '.join(pack.info.tasks)}."
            )
    return dict(packs)


@cache
def _expected_shapes(config: ModelConfig, rank: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        refinement = Refinement(MedUniSeg(config), rank)
        return {name: tuple(tensor.shape) for name, tensor in refinement.state_dict().items()}


def _check(path: Path, info: PackInfo, found: Shapes) -> None:
    if not has_sane_sizes(info.config):
        PACK.refuse(path, "its base's architecture has impossible sizes")
    if info.config.method != "meduniseg":
        PACK.refuse(path, "its base is another paper's network, which has no refinement")
    if info.config.dimension != 3:
        PACK.refuse(path, "its base is a 2D network, which has no refinement")
    expected = _expected_shapes(info.config, info.rank)
    container.check_shapes(path, PACK, expected, found, "the file does not belong to the base it names")
