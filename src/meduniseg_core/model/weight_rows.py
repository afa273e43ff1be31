"""What the rows (first axis) of a weight belong to, to carry weights over to a network of other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from meduniseg_core.model.config import ModelConfig

MODAL_PROMPTS = ("modal_map.prompts", "sefu.prompt")

Rows = Literal["tasks", "modalities", "classes"]


def rows_of(config: ModelConfig, name: str) -> Rows | None:
    """Find out what each row of a weight belongs to.

    Args:
        config: the architecture of a `MedUniSeg`.
        name: the weight's name in its state dict.

    Returns:
        What a row belongs to; None for a weight that all tasks and modalities share.
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


def with_rows(own: Tensor, old: Tensor, rows: Mapping[int, int]) -> Tensor:
    """Take some rows of a weight over from another network's.

    Args:
        own: the weight, ``(rows, ...)``.
        old: that of the other network; its rows have the same shape.
        rows: for each row to replace, which one of ``old`` it becomes.

    Returns:
        A changed copy of ``own``.
    """
    merged = own.clone()
    for to, of in rows.items():
        merged[to] = old[of].to(own.dtype)
    return merged
