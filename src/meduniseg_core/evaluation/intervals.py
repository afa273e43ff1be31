"""Bootstrap intervals: how far a figure may lie from what more cases would give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95
RESAMPLES = 2000


class BootstrapInterval(BaseModel):
    """A bootstrap interval of a mean, at the stated confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    confidence: float


def percentile_interval(draws: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> BootstrapInterval:
    """Compute the percentile interval of what resampling gave.

    Args:
        draws: one number for each resampling.
        confidence: between 0 and 1.

    Returns:
        The interval.
    """
    low, high = np.quantile(np.asarray(draws), [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(low=float(low), high=float(high), confidence=confidence)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> BootstrapInterval:
    """Compute the percentile bootstrap interval of a mean.

    Args:
        values: one for each case.
        confidence: between 0 and 1.
        resamples: how many means are drawn.
        seed: the same seed gives the same interval.

    Returns:
        The interval.

    Raises:
        ValueError: no values, or a confidence outside 0..1.
    """
    scores = np.asarray(values, dtype=np.float64)
    if not scores.size or not 0 < confidence < 1:
        raise ValueError("a bootstrap interval needs at least one value and a confidence between 0 and 1")
    rng = np.random.default_rng(seed)
    means = np.array([scores[rng.integers(scores.size, size=scores.size)].mean() for _ in range(resamples)])
    return percentile_interval(means, confidence)
