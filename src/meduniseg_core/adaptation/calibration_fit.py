"""Fits of a calibration: models with so few parameters that a few dozen images determine them.

These are a logistic regression with a quadratic penalty (which treats a Dice as a probability), conformal intervals of
its predictions for images that it was not fitted to, and a Gaussian with few main directions for the encoder's
features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from meduniseg_core.inference.quality.assessment import probability
from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.inference.quality.features import (
    FEATURES,
    MISSED_FEATURES,
    VERSION,
    class_features,
    distance,
    unfamiliarity,
)
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights.calibration import (
    Calibration,
    ClassCalibration,
    FeatureSpace,
    Interval,
    LogisticModel,
    TaskCalibration,
)

FloatArray = npt.NDArray[np.float64]

COVERAGE = 0.8
FOLDS = 5
_PENALTY = 1.0
_OFFSET_SCALE = 0.5  # an offset of a class is penalised as four times its square
_COPY = 0.25  # weight of a changed copy
_DIRECTIONS = 2
_LEAST_FOR_SPACE = 6  # images
_LEAST_FOR_USUAL = 3
_LEAST_IN_BIN = 15
_FARTHEST = 1e6
_BINS = (0.3, 0.5, 0.7, 0.85, 1.0)
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Observation:
    """A result whose truth is known.

    ``dice`` and ``present`` of every class of its task. ``group``: its patient; what is told apart never shares one.
    ``copy``: a changed copy, or an image of another kind. ``learned``: the model was trained on this very image, so
    that how well it does says nothing.
    """

    task: str
    group: str
    evidence: Evidence
    dice: tuple[float, ...]
    present: tuple[bool, ...]
    copy: bool = False
    learned: bool = False


@dataclass(frozen=True, eq=False)
class _Row:
    """One class of an observation."""

    task: str
    name: str
    group: str
    features: dict[str, float]
    found: bool
    present: bool
    dice: float
    weight: float


def fit_calibration(observations: Sequence[Observation], plans: Sequence[TaskPlan]) -> Calibration:
    """Fit everything that a model's file keeps.

    Args:
        observations: of one model; of every task at least one that is not a copy.
        plans: of the tasks observed, in the order in which they are to stand.

    Returns:
        The calibration, without provenance.
    """
    by_task = {plan.task: [one for one in observations if one.task == plan.task] for plan in plans}
    classes = {plan.task: _usual_classes(plan, by_task[plan.task]) for plan in plans}
    spaces = {task: _space_of(own) for task, own in by_task.items()}
    rows = [row for plan in plans for row in _rows(plan, by_task[plan.task], classes[plan.task])]
    dice, offsets = _fit_dice(rows)
    tasks = [
        TaskCalibration(
            task=plan.task,
            classes=tuple(
                known.model_copy(update={"offset": _short(offsets.get((plan.task, known.name), 0.0))})
                for known in classes[plan.task]
            ),
            space=spaces[plan.task],
            images=sum(not one.copy for one in by_task[plan.task]),
        )
        for plan in plans
    ]
    return Calibration(
        version=VERSION,
        present_found=_fit_present([row for row in rows if row.found], FEATURES),
        present_missed=_fit_present([row for row in rows if not row.found], MISSED_FEATURES),
        dice=dice,
        intervals=fit_intervals(*_held_out_dice(rows)),
        coverage=COVERAGE,
        tasks=tuple(tasks),
    )


def fit_logistic(
    features: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    penalties: FloatArray,
) -> tuple[FloatArray, float]:
    """Fit a logistic regression with a quadratic penalty.

    Args:
        features: (n, p).
        targets: (n,), 0 to 1: what is regressed on may be a share.
        weights: (n,), of the observations.
        penalties: (p,), of the squares of the weights found, in observations.

    Returns:
        The weights (p,), and the bias, which is not penalised; one observation of 1/2 keeps it finite.
    """
    count = features.shape[1]
    with_bias = np.concatenate([np.hstack([features, np.ones((len(features), 1))]), np.eye(1, count + 1, count)])
    goals, shares = np.append(targets, 0.5), np.append(weights, 1.0)
    penalty = np.append(penalties, 0.0)

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        odds = with_bias @ values
        total = float(shares @ (np.logaddexp(0, odds) - goals * odds) + penalty @ values**2 / 2)
        slope = with_bias.T @ (shares * (1 / (1 + np.exp(-odds)) - goals)) + penalty * values
        return total, slope

    found = minimize(loss, np.zeros(count + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def fit_intervals(predicted: FloatArray, true: FloatArray, coverage: float = COVERAGE) -> tuple[Interval, ...]:
    """How far the truth lies from predictions: conformal, in bins of what is predicted.

    Args:
        predicted: (n,), of images that the predictions were not fitted to.
        true: (n,).
        coverage: share of the true values that intervals hold; what is left lies below and above in equal parts.

    Returns:
        The intervals; bins of few values are joined with their neighbour. Without any value, one from 0 to 1.
    """
    ends: list[float] = []
    start = -1.0
    for end in _BINS:
        if np.count_nonzero((predicted > start) & (predicted <= end)) >= _LEAST_IN_BIN:
            ends.append(end)
            start = end
    ends = [*ends[:-1], 1.0]  # few values at the upper end belong to the last bin
    intervals: list[Interval] = []
    for start, end in zip([-1.0, *ends], ends, strict=False):
        inside = (predicted > start) & (predicted <= end)
        errors = predicted[inside] - true[inside]
        low, high = (_conformal(side, (1 + coverage) / 2) for side in (errors, -errors))
        intervals.append(Interval(until=end, low=low, high=high))
    return tuple(intervals)


def fit_space(features: Sequence[FloatArray]) -> FeatureSpace | None:
    """What images of a kind look like to an encoder.

    Args:
        features: of each image, (n,).

    Returns:
        The space, whose distances are those of images left out in turn; None where they are too few.
    """
    if len(features) < _LEAST_FOR_SPACE or not len(features[0]):
        return None
    values = np.stack(features)
    folds = np.arange(len(values)) % min(FOLDS, len(values))
    distances: list[float] = []
    for fold in np.unique(folds):
        part = _gaussian(values[folds != fold], (1.0,))
        distances += [distance(one, part) or 0.0 for one in values[folds == fold]]
    distances = [min(value, _FARTHEST) for value in distances]
    quantiles = np.quantile(distances, np.linspace(0, 1, min(len(distances), 101)))
    return _gaussian(values, tuple(_short(value) for value in quantiles))


def _gaussian(values: FloatArray, distances: tuple[float, ...]) -> FeatureSpace:
    """Mean, main directions, and one variance for all others: probabilistic principal components."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(scale, max(0.1 * float(scale.mean()), 1e-6))  # few images may agree on a channel by chance
    standard = (values - mean) / scale
    count = min(_DIRECTIONS, len(values) - 2)
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    variances = singular**2 / max(len(values) - 1, 1)
    rest = max(float(variances[count:].sum()) / max(values.shape[1] - count, 1), 1e-3)
    return FeatureSpace(
        mean=_short_row(mean),
        scale=tuple(max(value, 1e-9) for value in _short_row(scale)),
        directions=tuple(_short_row(row) for row in rows[:count]),
        variances=tuple(max(_short(value), rest) for value in variances[:count]),
        rest=rest,
        distances=distances,
    )


def _space_of(observations: Sequence[Observation], without: frozenset[str] = frozenset()) -> FeatureSpace | None:
    return fit_space([one.evidence.features for one in observations if not one.copy and one.group not in without])


def _folds(groups: Sequence[str]) -> dict[str, int]:
    """Every group's fold, the largest groups first and always into the smallest fold."""
    names, counts = np.unique(np.array(groups), return_counts=True)
    loads, found = [0] * FOLDS, {}
    for position in np.argsort(-counts, kind="stable"):
        fold = loads.index(min(loads))
        loads[fold] += int(counts[position])
        found[str(names[position])] = fold
    return found


def _usual_classes(plan: TaskPlan, observations: Sequence[Observation]) -> list[ClassCalibration]:
    """How large each class usually is, and where: of originals that hold it and whose result does."""
    found = []
    for position, name in enumerate(plan.classes):
        there = [
            (one.evidence.classes[position], one.evidence.voxels)
            for one in observations
            if not one.copy and one.present[position] and one.evidence.classes[position].voxels > 0
        ]
        if len(there) < _LEAST_FOR_USUAL:
            found.append(ClassCalibration(name=name))
            continue
        size = _spread([math.log(one.voxels / voxels) for one, voxels in there], 0.2)
        d, h, w = (_spread([one.centre[axis] for one, _ in there], 0.03) for axis in range(3))
        found.append(ClassCalibration(name=name, size=size, centre=(d, h, w)))
    return found


def _spread(values: Sequence[float], least: float) -> tuple[float, float]:
    return _short(float(np.mean(values))), _short(max(float(np.std(values)), least))


def _rows(plan: TaskPlan, observations: Sequence[Observation], classes: Sequence[ClassCalibration]) -> list[_Row]:
    """All classes of all observations; how unfamiliar an image is, is asked of spaces that never saw its patient."""
    folds = _folds([one.group for one in observations])
    spaces = {
        fold: _space_of(observations, frozenset(group for group, own in folds.items() if own == fold))
        for fold in set(folds.values())
    }
    rows = []
    for one in observations:
        weight = _COPY if one.copy else 0.0 if one.learned else 1.0
        if weight == 0:
            continue
        unfamiliar = unfamiliarity(one.evidence.features, spaces[folds[one.group]])
        for position, name in enumerate(plan.classes):
            features = class_features(one.evidence, position, classes[position], unfamiliar)
            found = one.evidence.classes[position].voxels > 0
            truth = one.present[position], one.dice[position]
            rows.append(_Row(plan.task, name, f"{plan.task}/{one.group}", features, found, *truth, weight))
    return rows


def _fit_present(rows: Sequence[_Row], names: Sequence[str]) -> LogisticModel:
    goals = np.array([float(row.present) for row in rows])
    return _standard_fit(rows, names, goals, np.zeros((len(rows), 0)))[0]


def _fit_dice(rows: Sequence[_Row]) -> tuple[LogisticModel, dict[tuple[str, str], float]]:
    """The model of the Dice of classes that were found, and the offset of each class."""
    found = [row for row in rows if row.found]
    names = sorted({(row.task, row.name) for row in found})
    columns = np.array([[float((row.task, row.name) == name) for name in names] for row in found])
    columns = _OFFSET_SCALE * columns.reshape(len(found), len(names))
    model, extra = _standard_fit(found, FEATURES, np.array([row.dice for row in found]), columns)
    return model, {name: _OFFSET_SCALE * float(value) for name, value in zip(names, extra, strict=True)}


def _standard_fit(
    rows: Sequence[_Row], names: Sequence[str], goals: FloatArray, columns: FloatArray
) -> tuple[LogisticModel, FloatArray]:
    """A model on standardised features beside ``columns``, whose weights are returned."""
    values = np.array([[row.features[name] for name in names] for row in rows]).reshape(len(rows), len(names))
    centre = values.mean(axis=0) if len(rows) else np.zeros(len(names))
    scale = np.maximum(values.std(axis=0), 1e-3) if len(rows) else np.ones(len(names))
    weights = np.array([row.weight for row in rows])
    everything = np.hstack([(values - centre) / scale, columns])
    found, bias = fit_logistic(everything, goals, weights, np.full(everything.shape[1], _PENALTY))
    model = LogisticModel(
        features=tuple(names),
        centre=_short_row(centre),
        scale=_short_row(scale),
        weights=_short_row(found[: len(names)]),
        bias=_short(bias),
    )
    return model, found[len(names) :]


def _held_out_dice(rows: Sequence[_Row]) -> tuple[FloatArray, FloatArray]:
    """Predicted and true Dice of what was found, each patient predicted by models fitted to others."""
    folds = _folds([row.group for row in rows])
    predicted, true = [], []
    for fold in range(FOLDS):
        held = [row for row in rows if row.found and folds[row.group] == fold]
        rest = [row for row in rows if folds[row.group] != fold]
        if not held or not any(row.found for row in rest):
            continue
        model, offsets = _fit_dice(rest)
        predicted += [probability(model, row.features, offsets.get((row.task, row.name), 0.0)) for row in held]
        true += [row.dice for row in held]
    return np.array(predicted), np.array(true)


def _conformal(errors: FloatArray, level: float) -> float:
    """The quantile that holds for a new value, too: one of n + 1."""
    if not len(errors):
        return 1.0
    rank = math.ceil((len(errors) + 1) * level)
    if rank > len(errors):
        return 1.0
    return min(max(_short(np.sort(errors)[rank - 1]), 0.0), 1.0)


def _short(value: float | np.floating[Any]) -> float:
    """Few digits: more would be noise in the model's file."""
    return float(f"{float(value):.{_DIGITS}g}")


def _short_row(values: FloatArray) -> tuple[float, ...]:
    return tuple(_short(value) for value in values)
