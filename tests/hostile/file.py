"""One file of the corpus, and what its parts are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Verdict = Literal["refused", "read"]
MB = 1 << 20
VOLUME = (np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8))).astype(np.int16)
PICTURE = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Hostile:
    """A file, what lies beside it, and the verdict on it; ``labels``: it is read as a label map."""

    name: str
    content: bytes
    verdict: Verdict
    beside: dict[str, bytes] = field(default_factory=dict)
    labels: bool = False
