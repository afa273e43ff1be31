"""How good predictions of quality are: what results said of themselves, compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from meduniseg_core.evaluation.classification import two_class_auroc
from meduniseg_core.inference.quality.assessment import ResultQuality

_BINS = 10
FAILED = 0.5
"""A Dice below it is a failure."""


@dataclass(frozen=True)
class Scored:
    """What a result said, and the true Dice and presence of every class. ``name``: what it is counted under."""

    name: str
    quality: ResultQuality
    dice: tuple[float, ...]
    present: tuple[bool, ...]


def scores(scored: Sequence[Scored]) -> dict[str, float | None]:
    """Compare, class by class.

    Args:
        scored: results.

    Returns:
        How many ``images`` and ``classes``, how many of these ``below`` a Dice of 0.5; ``auroc`` of telling them by
        the predicted Dice, ``spearman``'s rank correlation of predicted and true Dice, ``present_error``: the expected
        calibration error of the probability of being present, ``dice_error``: the mean absolute error of the
        predicted Dice, ``covered``: the share of true Dice within their bounds. None where it cannot be told.
    """
    classes = [one for result in scored for one in result.quality.classes]
    predicted = np.array([one.dice for one in classes])
    true = np.array([value for result in scored for value in result.dice])
    present = np.array([float(value) for result in scored for value in result.present])
    inside = [one.low <= value <= one.high for one, value in zip(classes, true, strict=True)]
    failed = true < FAILED
    varied = len(true) > 2 and np.ptp(true) > 0 and np.ptp(predicted) > 0
    return {
        "images": len(scored),
        "classes": len(classes),
        "below": int(failed.sum()),
        "auroc": auroc(-predicted, failed),
        "spearman": float(spearmanr(predicted, true).statistic) if varied else None,
        "present_error": calibration_error(np.array([one.present for one in classes]), present),
        "dice_error": float(np.abs(predicted - true).mean()) if len(true) else None,
        "covered": float(np.mean(inside)) if inside else None,
    }


def auroc(score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """The area under the ROC curve.

    Args:
        score: (n,), higher for what is thought positive.
        positive: (n,), what is.

    Returns:
        0 to 1, ties counted half; None where all or none are positive.
    """
    if positive.all() or not positive.any():
        return None
    return two_class_auroc(positive, score)


def calibration_error(probability: npt.NDArray[np.float64], happened: npt.NDArray[np.float64]) -> float | None:
    """The expected calibration error in ten bins of equal width.

    Args:
        probability: (n,), as it was said.
        happened: (n,), 0 or 1.

    Returns:
        The mean distance of what was said and how often it happened, weighted by the bins' numbers; None of nothing.
    """
    if not len(probability):
        return None
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    total = sum(
        abs(float(probability[bins == place].sum() - happened[bins == place].sum())) for place in np.unique(bins)
    )
    return total / len(probability)
