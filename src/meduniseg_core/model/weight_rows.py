"""What the first axis of a weight counts: by these rows weights are carried over to a network of other tasks."""

from __future__ import annotations

from typing import Literal

from meduniseg_core.model.config import ModelConfig

MODAL_PROMPTS = ("modal_map.prompts", "sefu.prompt")

Rows = Literal["tasks", "modalities", "classes"]


def rows_of(config: ModelConfig, name: str) -> Rows | None:
    """Tell what a weight has a row for.

    Args:
        config: the architecture of a `MedUniSeg`.
        name: the weight's name in its state dict.

    Returns:
        What each row belongs to; None for a weight that all share.
    """
    if name.endswith("head.weight"):
        return "classes"
    if name in MODAL_PROMPTS:
        return "modalities" if config.modal_prompts == "each" else None
    last = f"fuse.blocks.{config.fuse_blocks - 1}."
    of_tasks = name.startswith(last) if config.task_prompts == "one" else name == "fuse.prompt"
    return "tasks" if of_tasks else None
