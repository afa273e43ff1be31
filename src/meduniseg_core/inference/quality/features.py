"""What a calibration looks at: a few numbers for each class, the same for every task, network and size of image."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.weights.calibration import ClassCalibration, FeatureSpace

VERSION = 1
"""The version of the features' meaning; a calibration of another version is not used."""

FEATURES = (
    "expected_dice",
    "certainty",
    "unsure",
    "border_entropy",
    "margin",
    "roughness",
    "size",
    "unusual_size",
    "unusual_place",
    "agreement",
    "peak",
    "mass_outside",
    "unfamiliar",
)
MISSED_FEATURES = ("peak", "mass_everywhere", "unfamiliar")
"""The features of a class of which nothing was found."""

_BOUND = 6.0


def class_features(evidence: Evidence, position: int, known: ClassCalibration, unfamiliar: float) -> dict[str, float]:
    """The features of one class.

    Args:
        evidence: of the result.
        position: of the class in the plan.
        known: where and how large the class usually is.
        unfamiliar: see :func:`unfamiliarity`.

    Returns:
        By name: all of ``FEATURES`` and ``MISSED_FEATURES``, finite.
    """
    one = evidence.classes[position]
    voxels = max(one.voxels, 1.0)
    share = math.log(voxels / max(evidence.voxels, 1))
    return {
        "expected_dice": _logit(2 * one.inside / max(one.total + one.voxels, 1e-6)),
        "certainty": _logit(one.inside / voxels),
        "unsure": math.log((one.unsure + 1) / voxels),
        "border_entropy": one.border_entropy / max(one.border, 1.0),
        "margin": one.margin / voxels,
        "roughness": math.log((one.border + 1) / math.sqrt(voxels)),
        "size": share,
        "unusual_size": 0.0 if known.size is None else min(abs(share - known.size[0]) / known.size[1], _BOUND),
        "unusual_place": _unusual_place(one, known),
        "agreement": _agreement(one),
        "peak": one.peak,
        "mass_outside": math.log((max(one.total - one.inside, 0.0) + 1) / voxels),
        "mass_everywhere": math.log((one.total + 1) / max(evidence.voxels, 1)),
        "unfamiliar": unfamiliar,
    }


def _agreement(one: ClassEvidence) -> float:
    """How far overlapping windows agree, as a Dice; 1 where nothing overlaps."""
    return one.agreed / one.votes if one.votes else 1.0


def _unusual_place(one: ClassEvidence, known: ClassCalibration) -> float:
    """How many spreads the centre lies from where it usually is, in the root mean square of the axes."""
    if known.centre is None or not one.voxels:
        return 0.0
    squares = [((own - mean) / spread) ** 2 for own, (mean, spread) in zip(one.centre, known.centre, strict=True)]
    return min(math.sqrt(sum(squares) / len(squares)), _BOUND)


def _logit(share: float) -> float:
    bounded = min(max(share, 1e-6), 1 - 1e-6)
    return min(max(math.log(bounded / (1 - bounded)), -_BOUND), _BOUND)


def distance(features: npt.NDArray[np.float64], space: FeatureSpace) -> float | None:
    """How far an image's features lie from those of the images that a space was made of.

    Args:
        features: (n,), of an `Evidence`.
        space: of its task.

    Returns:
        The Mahalanobis distance, divided by the square root of n; None where the features are of another number.
    """
    if len(features) != len(space.mean):
        return None
    values = (features - np.asarray(space.mean)) / np.asarray(space.scale)
    directions = np.asarray(space.directions, dtype=np.float64).reshape(-1, len(values))
    along = directions @ values
    around = max(float(values @ values - along @ along), 0.0)
    squared = float((along**2 / np.asarray(space.variances)).sum()) + around / space.rest
    return math.sqrt(squared / len(values))


def unfamiliarity(features: npt.NDArray[np.float64], space: FeatureSpace | None) -> float:
    """Measure how unusual an image is.

    Args:
        features: of an `Evidence`.
        space: of its task.

    Returns:
        The logarithm of its distance in multiples of what is usual; 0 where it is not known.
    """
    if space is None:
        return 0.0
    found = distance(features, space)
    if found is None:
        return 0.0
    usual = max(float(np.median(space.distances)), 1e-6)
    return min(max(math.log(max(found, 1e-6) / usual), -3.0), 3.0)


def familiar(features: npt.NDArray[np.float64], space: FeatureSpace | None) -> float | None:
    """Compute which share of known images is at least as unusual as this one.

    Args:
        features: of an `Evidence`.
        space: of its task.

    Returns:
        The share of the images of its kind that lie at least as far away; None where it is not known.
    """
    found = None if space is None else distance(features, space)
    if space is None or found is None:
        return None
    return sum(known >= found for known in space.distances) / len(space.distances)
