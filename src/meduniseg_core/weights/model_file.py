"""The model file: one ``.safetensors`` file with the weights and, in its header, all that is needed to use them.

In addition to the checks of :mod:`meduniseg_core.weights.container`, the architecture's sizes are compared with sane
bounds, and every tensor's name and shape with the architecture, before memory is allocated for the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.model.meduniseg import MedUniSeg
from meduniseg_core.model.networks import Network, NetworkConfig, build_model
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.weights import container
from meduniseg_core.weights.container import SUFFIX, Kind, Shapes, StorageType
from meduniseg_core.weights.info import FORMAT, FORMAT_VERSION, ModelInfo

__all__ = ["SUFFIX", "Model", "StorageType", "has_sane_sizes", "read_info", "read_model", "save_model"]

MODEL = Kind("model", FORMAT, FORMAT_VERSION, ModelInfo)

# Above any network one would train, far below what would hurt before the tensors' shapes are compared.
_MAX_STAGES, _MAX_STEMS, _MAX_STRIDE, _MAX_WIDTH, _MAX_PROMPT_SIDE = 12, 32, 8, 1 << 14, 256
_MAX_BLOCKS, _MAX_KERNEL, _MAX_MEMBERS = 64, 15, 64


@dataclass(frozen=True)
class Model:
    """A network ready to use (on the CPU, in float32, in evaluation mode) and its file's description.

    ``sha256`` is that of the file; ``path`` is None for a model that was never a file.
    """

    info: ModelInfo
    network: Network
    sha256: str
    path: Path | None = None

    @property
    def universal_network(self) -> MedUniSeg:
        """The network, if it is a MedUniSeg or one of its variants.

        Raises:
            UsageError: it is an imported U-Net or another paper's network, which cannot be trained further.
        """
        if isinstance(self.network, MedUniSeg):
            return self.network
        _ = self.info.meduniseg_config  # says so
        raise UsageError(f"Model {self.info.name} does not hold the network that it describes; get the file again.")


def save_model(path: Path, info: ModelInfo, state_dict: Mapping[str, Tensor], dtype: StorageType = "fp32") -> str:
    """Write a model file atomically. Identical input gives an identical file.

    Args:
        path: the file; its name ends in ``.safetensors``.
        info: the model's description.
        state_dict: weights that fit ``info.config`` exactly.
        dtype: the type they are stored in.

    Returns:
        The file's sha256.

    Raises:
        BadInputError: the weights do not fit the architecture or are not finite in ``dtype``, the name has another
            suffix, or the place cannot be written to.
    """
    path = Path(path)
    if path.suffix == SUFFIX:  # else the container refuses it
        _check(path, info, {name: tuple(tensor.shape) for name, tensor in state_dict.items()})
    return container.write_container(path, MODEL, info, state_dict, dtype)


def read_info(path: Path) -> ModelInfo:
    """Read a model's description from its file's header.

    Args:
        path: the model file.

    Returns:
        The description.

    Raises:
        BadInputError: it is not a usable model file.
    """
    path = Path(path)
    return container.read_description(path, MODEL, partial(_check, path))


def read_model(path: Path) -> Model:
    """Load a model file.

    Args:
        path: the model file.

    Returns:
        The model.

    Raises:
        BadInputError: it is not a usable model file.
    """
    path = Path(path)
    info, state, sha256 = container.read_container(path, MODEL, partial(_check, path))
    with torch.device("meta"):  # skips the initialisation that the weights would overwrite
        network = build_model(info.config)
    network.load_state_dict(state, assign=True)
    return Model(info=info, network=network.eval(), sha256=sha256, path=path)


@cache
def expected_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of an architecture, without allocating them.

    Args:
        config: the architecture.

    Returns:
        The shape of each tensor by name. Do not change it: it is cached.
    """
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_model(config).state_dict().items()}


def has_sane_sizes(config: NetworkConfig) -> bool:
    """Whether an architecture's sizes are within bounds that only a damaged or hostile file would exceed.

    Args:
        config: the architecture.

    Returns:
        True if they are.
    """
    if isinstance(config, UNetConfig):
        return _is_sane_unet(config)
    widths = (*config.features, *config.stems, config.classes, config.modal_prompt_length, config.task_prompt_channels)
    counts = (config.modalities, config.tasks)
    strides = tuple(step for stride in config.strides for step in stride)
    return (
        2 <= len(config.features) <= _MAX_STAGES
        and len(config.stems) <= _MAX_STEMS
        and all(1 <= value <= _MAX_WIDTH for value in widths)
        and all(0 <= value <= _MAX_WIDTH for value in counts)
        and all(1 <= value <= _MAX_STRIDE for value in strides)
        and all(1 <= value <= _MAX_PROMPT_SIDE for value in config.task_prompt_size)
    )


def _is_sane_unet(config: UNetConfig) -> bool:
    widths = (*config.features, config.channels, config.classes)
    blocks = (*config.encoder_blocks, *config.decoder_blocks)
    steps = (step for sizes in config.strides for step in sizes)
    return (
        len(config.features) <= _MAX_STAGES
        and config.members <= _MAX_MEMBERS
        and max(widths) <= _MAX_WIDTH
        and max(blocks) <= _MAX_BLOCKS
        and max(size for kernel in config.kernels for size in kernel) <= _MAX_KERNEL
        and max(steps) <= _MAX_STRIDE
    )


def _check(path: Path, info: ModelInfo, found: Shapes) -> None:
    if not has_sane_sizes(info.config):
        MODEL.refuse(path, "its architecture has impossible sizes")
    remedy = "the file does not belong to the architecture it names"
    container.check_shapes(path, MODEL, expected_shapes(info.config), found, remedy)
