"""Fits an image-level head to a frozen network: logistic regression on what `inference.classification` shows of images.

Strength of the penalty and the kind of inputs are chosen by cross-validation in which a patient's images stay together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from meduniseg_core.errors import UsageError
from meduniseg_core.inference.classification import head_inputs
from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.inference.quality.features import VERSION
from meduniseg_core.version import __version__
from meduniseg_core.weights import Model
from meduniseg_core.weights.classifier import ClassifierHead, Inputs

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse penalties: small data sets have fewer images than the network has channels."""
LEAST_PATIENTS = 4  # of each class
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LabelledEvidence:
    """What the network showed of one image, the image's class, and its patient."""

    evidence: Evidence
    label: str
    patient: str


def fit_head(model: Model, task: str, samples: Sequence[LabelledEvidence], *, seed: int = 0) -> ClassifierHead:
    """Fit a head.

    Args:
        model: the frozen model.
        task: whose prompts were used.
        samples: of training images.
        seed: of the folds.

    Returns:
        The head; its provenance has the strength, the kind of inputs, and the log loss of the cross-validation.

    Raises:
        UsageError: there are fewer than two classes, or too few patients of one.
        BadInputError: an image holds only background.
    """
    classes = sorted({one.label for one in samples})
    if len(classes) < 2:
        raise UsageError(f"A classifier needs images of two classes at least, not only {', '.join(classes) or 'none'}.")
    for name in classes:
        patients = {one.patient for one in samples if one.label == name}
        if len(patients) < LEAST_PATIENTS:
            raise UsageError(
                f"Class {name} has images of {len(patients)} patients, and a fit needs {LEAST_PATIENTS}; add images."
            )
    truth = np.array([classes.index(one.label) for one in samples])
    groups = [one.patient for one in samples]
    tried: dict[tuple[Inputs, float], float] = {}
    tables: dict[Inputs, npt.NDArray[np.float64]] = {}
    for inputs in get_args(Inputs):
        tables[inputs] = np.stack([head_inputs(one.evidence, inputs) for one in samples])
        for strength in STRENGTHS:
            tried[inputs, strength] = _cross_validated(tables[inputs], truth, groups, strength, seed)
    best = min(tried, key=lambda key: tried[key])
    if not np.isfinite(tried[best]):
        raise UsageError(
            "Nearly all images of a class are one patient's, so that nothing can be held back; add images."
        )
    inputs, strength = best
    centre, scale = _scaling(tables[inputs])
    fitted = _fitted((tables[inputs] - centre) / scale, truth, strength)
    weights, bias = np.asarray(fitted.coef_), np.asarray(fitted.intercept_)
    if len(classes) == 2:  # one row: the second class against the first
        weights, bias = np.concatenate([np.zeros_like(weights), weights]), np.concatenate([np.zeros(1), bias])
    provenance: dict[str, Any] = {
        "version": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "images": {name: int((truth == place).sum()) for place, name in enumerate(classes)},
        "patients": len(set(groups)),
        "strength": strength,
        "log_loss": round(tried[best], 4),
    }
    return ClassifierHead(
        model=model.info.name,
        model_sha256=model.sha256,
        task=task,
        features_version=VERSION,
        inputs=inputs,
        classes=tuple(classes),
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(tuple(row) for row in weights.tolist()),
        bias=tuple(bias.tolist()),
        provenance=provenance,
    )


def _cross_validated(
    table: npt.NDArray[np.float64], truth: npt.NDArray[np.intp], groups: Sequence[str], strength: float, seed: int
) -> float:
    """The log loss on held-back patients; infinite where no fold can be made."""
    folds = StratifiedGroupKFold(min(_FOLDS, LEAST_PATIENTS), shuffle=True, random_state=seed)
    labels, total, count = np.unique(truth), 0.0, 0
    for learned, held in folds.split(table, truth, groups):
        if len(np.unique(truth[learned])) < len(labels) or not len(held):
            continue  # a patient with most images of a class
        centre, scale = _scaling(table[learned])
        fitted = _fitted((table[learned] - centre) / scale, truth[learned], strength)
        shares = fitted.predict_proba((table[held] - centre) / scale)
        total += float(log_loss(truth[held], shares, labels=labels, normalize=False))
        count += len(held)
    return total / count if count else float("inf")


def _scaling(table: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    spread = table.std(axis=0)
    return table.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)


def _fitted(table: npt.NDArray[np.float64], truth: npt.NDArray[np.intp], strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # far beyond what the strength lets matter
        return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(table, truth)
