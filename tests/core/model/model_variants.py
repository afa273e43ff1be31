"""Tiny networks of every variant, for the tests."""

from __future__ import annotations

from typing import Any

from meduniseg_core.model import ModelConfig

TINY: dict[str, Any] = {
    "features": (4, 6, 8, 8),
    "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
    "tasks": 3,
    "modalities": 4,
    "classes": 3,
    "task_prompt_channels": 4,
    "task_prompt_size": (2, 2, 2),
    "modal_prompt_length": 8,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "meduniseg": {},
    "no modal prior": {"modalities": 0},
    "multiple prompts": {"task_prompts": "each"},
    "universal prompts": {"modal_prompts": "one"},
    "fixed prompts": {"learned_prompts": False},
    "bottleneck prompts": {"modal_prior_at": "bottleneck"},
    "meduniseg-t": {"task_prior_at": "decoder"},
    "one block": {"fuse_blocks": 1},
    "five blocks of C/1": {"fuse_blocks": 5, "fuse_divisor": 1},
    "all at once": {
        "task_prompts": "each",
        "modal_prior_at": "bottleneck",
        "modal_prompts": "one",
        "task_prior_at": "decoder",
    },
}


def tiny(changes: dict[str, Any]) -> ModelConfig:
    """A tiny network with some settings changed."""
    return ModelConfig(**{**TINY, **changes})
