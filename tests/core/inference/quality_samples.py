"""A calibration made by hand, whose answers can be computed by hand."""

from __future__ import annotations

import numpy as np

from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights.calibration import (
    Calibration,
    ClassCalibration,
    FeatureSpace,
    Interval,
    LogisticModel,
    TaskCalibration,
)


def logistic(weights: dict[str, float], bias: float = 0.0) -> LogisticModel:
    """A model on features as they are."""
    count = len(weights)
    return LogisticModel(
        features=tuple(weights), centre=(0.0,) * count, scale=(1.0,) * count, weights=tuple(weights.values()), bias=bias
    )


def space(mean: np.ndarray, distances: tuple[float, ...] = (0.5, 1.0, 2.0)) -> FeatureSpace:
    """Known are images with features around ``mean``, alike in all directions."""
    return FeatureSpace(
        mean=tuple(mean), scale=(1.0,) * len(mean), directions=(), variances=(), rest=1.0, distances=distances
    )


def calibration(*plans: TaskPlan, **changes: object) -> Calibration:
    """Dice and presence follow the result's own probabilities."""
    tasks = [
        TaskCalibration(task=plan.task, classes=tuple(ClassCalibration(name=n) for n in plan.classes), images=10)
        for plan in plans
    ]
    fields: dict[str, object] = {
        "present_found": logistic({"certainty": 1.0}),
        "present_missed": logistic({"peak": 1.0}),
        "dice": logistic({"expected_dice": 1.0}),
        "intervals": (Interval(until=0.5, low=0.2, high=0.4), Interval(until=1.0, low=0.3, high=0.1)),
        "coverage": 0.8,
        "tasks": tuple(tasks),
    }
    return Calibration.model_validate({**fields, **changes})
