"""Places of the backbone for weights of other networks: the words that all readers of such weights share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

HEAD = "a head belongs to its own task"
TWIN = "deep supervision's, or the second name of another weight"
NO_LAYER = "the network has no such layer"

Place = str | None
Placer = Callable[[str, Tensor], Place]
"""The backbone's name for a weight; ``HEAD`` or ``TWIN`` for what is none of its business, None where it has none."""

PlacerOf = Callable[[Mapping[str, Tensor], int], Placer]


def stem_for(kernel: Tensor | None, kind: str = "weight") -> Place:
    """The place of a weight of a network's first convolution.

    Args:
        kernel: the convolution's kernel (outputs, channels, ...), which tells their number; None where a file lacks it.
        kind: ``weight`` or ``bias``.

    Returns:
        The place; None for what is no kernel.
    """
    return None if kernel is None or kernel.dim() < 2 else f"encoder.stems.{kernel.shape[1]}.{kind}"


def shifted(name: str, by: int) -> str:
    """Move a decoder level's name (the deepest is 0; no level has a negative one).

    Args:
        name: of a weight of the backbone.
        by: how many levels.

    Returns:
        The name.
    """
    return re.sub(r"(?<=^decoder\.levels\.)\d+", lambda match: str(int(match[0]) + by), name)


def count_of(names: Iterable[str], pattern: str) -> int:
    """How many numbered parts a network has.

    Args:
        names: of its weights.
        pattern: whose first group is the number.

    Returns:
        One more than the highest number; 0 where there is none.
    """
    return max((int(match[1]) + 1 for name in names if (match := re.match(pattern, name))), default=0)
