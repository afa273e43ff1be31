"""Detection: which lesions of the references the listed boxes find, by score. FROC and average precision.

A candidate finds a lesion (a connected piece of the reference, neighbours by faces, edges or corners) where their boxes
overlap with an IoU of at least ``OVERLAP``. Candidates are taken in falling order of their scores; each finds at most
one lesion, the one of the largest IoU that none before has found, and a candidate that finds none is false.

FROC (Bunch et al. 1978; LUNA16's reading): the sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false candidates an image,
and its mean. Average precision is the area below the precision's falling envelope over the recall, at every point (as
PASCAL VOC since 2010, COCO). Candidates of equal scores are one step of both curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from meduniseg_core.evaluation.intervals import BootstrapInterval, percentile_interval
from meduniseg_core.images.boxes import Box, piece_boxes

OVERLAP = 0.1
"""The default IoU of boxes: lesions' borders are drawn differently, and a box of 3 x 3 pixels is soon missed by one."""
FALSE_PER_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Candidate:
    """One candidate of an image: its box (half-open, voxels) and score."""

    box: Box
    score: float


@dataclass(frozen=True)
class Matched:
    """One image of one class: of each candidate its score and whether it found a lesion, and the number of lesions."""

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    lesions: int


class DetectionSummary(BaseModel):
    """Detection of one class over all images.

    ``sensitivities`` are those at ``FALSE_PER_IMAGE``; ``froc`` is their mean. ``f1`` is that of all candidates.
    ``average_precision`` and ``froc`` are None where no image holds a lesion. The intervals are of images resampled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: int
    name: str
    overlap: float
    images: int
    lesions: int
    candidates: int
    found: int
    f1: float
    average_precision: float | None
    average_precision_interval: BootstrapInterval | None = None
    froc: float | None
    froc_interval: BootstrapInterval | None = None
    false_per_image: tuple[float, ...] = FALSE_PER_IMAGE
    sensitivities: tuple[float, ...] = ()


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes.

    Args:
        one: half-open, in voxels.
        other: another one on the same grid.

    Returns:
        0 to 1.
    """
    common, first, second = 1, 1, 1
    for (a, b), (c, d) in zip(one, other, strict=True):
        common *= max(0, min(b, d) - max(a, c))
        first *= b - a
        second *= d - c
    return common / (first + second - common)


def lesion_boxes(mask: np.ndarray) -> list[Box]:
    """The boxes of a mask's connected pieces.

    Args:
        mask: bool, (D, H, W).

    Returns:
        One box for each piece, half-open.
    """
    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3), dtype=bool))
    return piece_boxes(pieces)


def match_boxes(candidates: Sequence[Candidate], lesions: Sequence[Box], overlap: float = OVERLAP) -> Matched:
    """Match the candidates of one image with its lesions.

    Args:
        candidates: in any order.
        lesions: the boxes of the reference.
        overlap: the least IoU.

    Returns:
        Scores and hits, the highest score first.
    """
    left = list(lesions)
    scores, hits = [], []
    for one in sorted(candidates, key=lambda candidate: -candidate.score):
        overlaps = [box_iou(one.box, box) for box in left]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] >= overlap
        if hit:
            del left[best]
        scores.append(one.score)
        hits.append(hit)
    return Matched(tuple(scores), tuple(hits), len(lesions))


def average_precision(images: Sequence[Matched]) -> float | None:
    """Compute the average precision over all images.

    Args:
        images: of one class.

    Returns:
        0 to 1; None where there is no lesion.
    """
    lesions, true, false = _curve(images)
    if not lesions:
        return None
    precision = np.maximum.accumulate((true / np.maximum(true + false, 1))[::-1])[::-1]
    return float(np.sum(np.diff(true / lesions, prepend=0.0) * precision))


def sensitivities(images: Sequence[Matched], false_per_image: Sequence[float] = FALSE_PER_IMAGE) -> list[float] | None:
    """Compute the FROC curve at chosen points: the best sensitivity with at most so many false candidates an image.

    Args:
        images: of one class.
        false_per_image: the points.

    Returns:
        One sensitivity for each point, 0 to 1; None where there is no lesion.
    """
    lesions, true, false = _curve(images)
    if not lesions:
        return None
    best = []
    for most in false_per_image:
        within = true[false / len(images) <= most]
        best.append(float(within.max() / lesions) if within.size else 0.0)
    return best


def summarise_detection(
    label: int, name: str, images: Sequence[Matched], overlap: float = OVERLAP, *, seed: int = 0
) -> DetectionSummary:
    """Summarise the detection of one class.

    Args:
        label: the class's id.
        name: the class's name.
        images: at least one.
        overlap: the IoU that they were matched with.
        seed: of the intervals.

    Returns:
        The summary.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("detection is measured on one image at least")
    candidates, found = sum(len(one.scores) for one in images), sum(sum(one.hits) for one in images)
    lesions = sum(one.lesions for one in images)
    points, precision = sensitivities(images), average_precision(images)
    rng = np.random.default_rng(seed)
    draws: list[tuple[float, float]] = []
    for _ in range(_RESAMPLES if lesions else 0):
        drawn = [images[at] for at in rng.integers(len(images), size=len(images))]
        curve, area = sensitivities(drawn), average_precision(drawn)
        if curve is not None and area is not None:  # else the images drawn hold no lesion
            draws.append((area, float(np.mean(curve))))
    areas, means = ([draw[at] for draw in draws] for at in (0, 1))
    return DetectionSummary(
        label=label,
        name=name,
        overlap=overlap,
        images=len(images),
        lesions=lesions,
        candidates=candidates,
        found=found,
        f1=2 * found / (candidates + lesions) if candidates + lesions else 1.0,
        average_precision=precision,
        average_precision_interval=percentile_interval(areas) if areas else None,
        froc=None if points is None else float(np.mean(points)),
        froc_interval=percentile_interval(means) if means else None,
        sensitivities=() if points is None else tuple(points),
    )


def _curve(images: Sequence[Matched]) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of lesions, and of found lesions and false candidates after each step down in score."""
    scores = np.array([score for one in images for score in one.scores], dtype=np.float64)
    hits = np.array([hit for one in images for hit in one.hits], dtype=bool)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if scores.size else np.zeros(0, dtype=np.intp)
    true, false = np.cumsum(hits)[ends], np.cumsum(~hits)[ends]
    lesions = sum(one.lesions for one in images)
    return lesions, np.concatenate([[0], true]), np.concatenate([[0], false])
