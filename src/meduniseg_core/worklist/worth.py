"""Which case is worth annotating next: *uncertainty x novelty*.

Uncertainty alone asks for look-alikes of one hard case, novelty alone for oddities that the model can do; the product
asks for cases that are both. Measured against random order by ``benchmarks/worklist_order.py``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from meduniseg_core.inference.quality.assessment import ResultQuality
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.worklist.state_file import Predicted

_SPREAD = 1e-6  # of a feature that is the same everywhere


def uncertainty_of(evidence: Evidence, quality: ResultQuality | None = None) -> float:
    """How unsure a prediction is: 1 less the Dice that is expected, in the mean of the classes.

    Args:
        evidence: what the pass showed.
        quality: what the model's calibration makes of it, which is preferred.

    Returns:
        0 to 1. Without a calibration the expected Dice is that of labels drawn by the network's own probabilities; of a
        class that was not found, the highest probability that it has anywhere counts as unsure.
    """
    if quality is not None:
        values = [1 - one.dice for one in quality.classes]
    else:
        values = [_unsure(one) for one in evidence.classes]
    return float(np.clip(np.mean(values), 0, 1)) if values else 0.0


def _unsure(one: ClassEvidence) -> float:
    if one.voxels:
        return 1 - 2 * one.inside / max(one.total + one.voxels, 1e-6)
    return 1 / (1 + math.exp(-one.peak))


def novelties(predicted: Mapping[str, Predicted], annotated: Collection[str]) -> dict[str, float]:
    """How unlike the annotated cases every other case is.

    Args:
        predicted: what the predictions of all cases showed, by name.
        annotated: the names of the cases that were accepted.

    Returns:
        By name, of all cases: the distance of the encoder's features (each divided by its spread over the cases of one
        model) to the nearest annotated case, in multiples of the median over the cases that are left; 0 for an
        annotated case, 1 where there is nothing to compare with.
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
