"""What the first axis of a weight counts: by these rows weights are carried over to a network of other tasks."""

from __future__ import annotations

from collections.abc import Sequence
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


def same_rows(wanted: Sequence[str], known: Sequence[str]) -> dict[int, int]:
    """Match the rows of two networks by what they belong to.

    Args:
        wanted: tasks or modalities of the one.
        known: those of the other.

    Returns:
        For each of ``wanted`` that is also in ``known``: {position in wanted: position in known}.
    """
    return {index: known.index(name) for index, name in enumerate(wanted) if name in known}
