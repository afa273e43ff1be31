"""Other papers' networks for one task, small enough for tests."""

from __future__ import annotations

from typing import Any

from meduniseg_core.model import ModelConfig
from meduniseg_core.model.peer_table import PEERS

SIZES: dict[str, dict[str, Any]] = {
    "u-mamba-bot": {"features": (4, 6, 8, 8), "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2))},
    "nnformer": {"features": (8, 8, 12, 16), "strides": ((2, 4, 4), (2, 2, 2), (2, 2, 2))},
    "swin-unetr": {"features": (4, 4, 6, 8, 12), "strides": ((2, 2, 2),) * 4},
    "unetr": {"features": (4, 6, 8, 24), "strides": ((2, 2, 2),) * 3},
    "cotr": {"features": (4, 4, 8, 12, 12), "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))},
    "mit": {"features": (4, 4, 6, 8), "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2))},
    "u-kan": {"features": (4, 4, 6, 8, 8), "strides": ((1, 2, 2),) * 4},
    "ux-net": {"features": (4, 6, 8, 12), "strides": ((2, 2, 2),) * 3},
}
FORMS = [(name, dimension) for name, peer in PEERS.items() for dimension in peer.dimensions]


def small_peer(name: str, **changes: Any) -> ModelConfig:
    """A network of two channels and three classes; of a network that serves both, the form for volumes."""
    shape = {"stems": (2,), "classes": 3, "modalities": 0, "tasks": 0, "dimension": max(PEERS[name].dimensions)}
    return ModelConfig(**{"method": name, **shape, **SIZES[name], **changes})
