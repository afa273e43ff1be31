"""The networks that a model file can hold, behind one interface."""

from __future__ import annotations

from typing import overload

import torch

from meduniseg_core.model import peers
from meduniseg_core.model.baselines import CCQ, DoDNet, Hermes, UniversalModel
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.meduniseg import MedUniSeg
from meduniseg_core.model.peer_table import PEERS
from meduniseg_core.model.plain_unet import UNet, UNetEnsemble
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.model.universal import UniversalNetwork

NetworkConfig = ModelConfig | UNetConfig
Network = UniversalNetwork | UNetEnsemble
"""A network with ``config`` and ``parts``, whose logits are averaged; each has ``encode`` and ``decode``."""

Part = UniversalNetwork | UNet

_METHODS: dict[str, type[UniversalNetwork]] = {
    "meduniseg": MedUniSeg,
    "dodnet": DoDNet,
    "universal-model": UniversalModel,
    "ccq": CCQ,
    "hermes": Hermes,
    **{peer.name: getattr(peers, peer.builder) for peer in PEERS.values()},
}


@overload
def build_model(config: ModelConfig) -> UniversalNetwork: ...


@overload
def build_model(config: UNetConfig) -> UNetEnsemble: ...


def build_model(config: NetworkConfig) -> Network:
    """Build a freshly initialised network, on the CPU in float32.

    Args:
        config: its architecture.

    Returns:
        The network, in training mode.
    """
    return UNetEnsemble(config) if isinstance(config, UNetConfig) else _METHODS[config.method](config)


def count_parameters(config: NetworkConfig) -> dict[str, int]:
    """Count parameters without allocating them.

    Args:
        config: the architecture.

    Returns:
        The number of parameters by part, and their "total".
    """
    with torch.device("meta"):
        network = build_model(config)
    parts = {name: sum(value.numel() for value in child.parameters()) for name, child in network.named_children()}
    parts |= {name: value.numel() for name, value in network.named_parameters(recurse=False)}
    return {**parts, "total": sum(parts.values())}
