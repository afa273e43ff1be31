"""The place of a process among those that a launcher (``torchrun``, ``srun``) started for one training."""

from __future__ import annotations

import os
from dataclasses import dataclass

from meduniseg_core.errors import UsageError


@dataclass(frozen=True)
class Place:
    """A process's number among all processes, its number on its machine, and how many there are."""

    rank: int
    local_rank: int
    size: int


def place_in_environment() -> Place | None:
    """The place that a launcher gave this process.

    Returns:
        From RANK, LOCAL_RANK and WORLD_SIZE; None where there is no launcher, or one process only.

    Raises:
        UsageError: a variable is missing or is not a number.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    try:
        size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        place = Place(rank, int(os.environ.get("LOCAL_RANK", str(rank))), size)
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"WORLD_SIZE is set and RANK or another variable of a launcher is not a number ({error}); "
            "start the processes with torchrun."
        ) from error
    if not 0 <= rank < size:
        raise UsageError(f"RANK is {rank} and WORLD_SIZE {size}; start the processes with torchrun.")
    return place if size > 1 else None
