"""Which case is worth annotating next: *uncertainty x novelty*.

Uncertainty alone selects look-alikes of one hard case, novelty alone selects oddities that the model can segment; the
product selects cases that are both uncertain and novel. ``benchmarks/worklist_order.py`` compares it with random order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from scipy.special import expit

from meduniseg_core.inference.quality.assessment import ResultQuality
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.worklist.state_file import Predicted

_SPREAD = 1e-6  # the least spread of a feature


def uncertainty_of(evidence: Evidence, quality: ResultQuality | None = None) -> float:
    """Compute how uncertain a prediction is: 1 less the expected Dice, averaged over the classes.

    Args:
        evidence: the figures of the prediction's pass.
        quality: the calibrated assessment, preferred if there is one.

    Returns:
        0 to 1. Without a calibration the expected Dice is that of labels drawn from the network's own probabilities;
        for a class that was not found, its highest probability anywhere is taken as the uncertainty.
    """
    if quality is not None:
        values = [1 - one.dice for one in quality.classes]
    else:
        values = [_unsure(one) for one in evidence.classes]
    return float(np.clip(np.mean(values), 0, 1)) if values else 0.0


def _unsure(one: ClassEvidence) -> float:
    if one.voxels:
        return 1 - 2 * one.inside / max(one.total + one.voxels, 1e-6)
    return float(expit(one.peak))


def novelties(predicted: Mapping[str, Predicted], annotated: Collection[str]) -> dict[str, float]:
    """Compute how much every case differs from the annotated ones.

    Args:
        predicted: the figures of all cases' predictions, by name.
        annotated: the names of the accepted cases.

    Returns:
        By name, for all cases: the distance of the encoder's features (each divided by its spread over the cases of one
        model) to the nearest annotated case, in multiples of the median over the other cases; 0 for an annotated case,
        1 if there is nothing to compare with.
    """
    found = dict.fromkeys(predicted, 1.0)
    groups: dict[tuple[str, int], list[str]] = {}
    for name, one in predicted.items():
        groups.setdefault((one.model_sha256, len(one.features)), []).append(name)
    for (_, size), names in groups.items():
        known = [name for name in names if name in annotated]
        if not size or not known:
            continue
        features = np.array([predicted[name].features for name in names])
        features /= np.maximum(features.std(axis=0), _SPREAD)
        centres = features[[names.index(name) for name in known]]
        distances = np.array([np.linalg.norm(centres - row, axis=1).min() for row in features])
        left = [distance for name, distance in zip(names, distances, strict=True) if name not in annotated]
        usual = float(np.median(left)) if left else 0.0
        for name, distance in zip(names, distances, strict=True):
            found[name] = float(distance) / usual if usual > _SPREAD else float(name not in annotated)
    return found
