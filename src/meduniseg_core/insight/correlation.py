"""How upstream scores go with downstream ones: Pearson's correlation over models, with an interval (paper, 6.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr

from meduniseg_core.errors import BadInputError
from meduniseg_core.user_tables import read_rows

COLUMNS = ("model", "upstream", "downstream")
LEAST = 4
"""Fewer points have no interval: Fisher's spread is 1 / sqrt(n - 3)."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's ``r`` over ``points`` models, its 95 % interval (Fisher's transformation), and the two-sided p."""

    r: float
    low: float
    high: float
    p: float
    points: int


@dataclass(frozen=True)
class ScorePair:
    """One model: its mean score upstream and downstream."""

    model: str
    upstream: float
    downstream: float


def correlation(pairs: Sequence[ScorePair]) -> Correlation:
    """Correlate upstream and downstream scores.

    Args:
        pairs: of four models at least.

    Returns:
        The correlation.

    Raises:
        BadInputError: there are fewer models, or all have one score.
    """
    if len(pairs) < LEAST:
        text = f"A correlation with an interval needs scores of {LEAST} models, and there are {len(pairs)}; add models."
        raise BadInputError(text)
    upstream, downstream = (np.array([getattr(one, name) for one in pairs]) for name in COLUMNS[1:])
    for name, values in zip(COLUMNS[1:], (upstream, downstream), strict=True):
        if np.ptp(values) == 0:
            raise BadInputError(f"All models have the same {name} score, which goes with nothing; give other models.")
    found = pearsonr(upstream, downstream)
    interval = found.confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return Correlation(float(found.statistic), low, high, float(found.pvalue), len(pairs))


def read_scores(path: Path) -> list[ScorePair]:
    """Read a table of scores.

    Args:
        path: a CSV with the columns model, upstream and downstream.

    Returns:
        One pair for each row.

    Raises:
        BadInputError: it is no such table; file and line are named.
    """
    found: list[ScorePair] = []
    for number, row in read_rows(path, COLUMNS):
        try:
            up, down = (float(row[name].replace(",", ".")) for name in COLUMNS[1:])  # a decimal comma
            found.append(ScorePair(row["model"], up, down))
        except ValueError as error:
            raise BadInputError(
                f"{path}, line {number}: a row has the columns {', '.join(COLUMNS)}, the last two with numbers."
            ) from error
        if not (math.isfinite(up) and math.isfinite(down)):
            raise BadInputError(f"{path}, line {number}: a score is not finite; leave the model out.")
    names = [one.model for one in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise BadInputError(f"{path}: model {doubled} has two rows; keep one.")
    return found
