"""Image-level classes against references: AUROC and balanced accuracy, with intervals by resampling images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.stats import rankdata

from meduniseg_core.evaluation.intervals import BootstrapInterval, percentile_interval

_RESAMPLES = 2000


class ClassificationSummary(BaseModel):
    """Figures over all images. ``auroc`` is that of the second of two classes, or the mean over all pairs of more (Hand
    and Till)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    images: dict[str, int]
    auroc: float
    auroc_interval: BootstrapInterval
    balanced_accuracy: float
    balanced_accuracy_interval: BootstrapInterval


def class_auroc(truth: npt.NDArray[np.intp], shares: npt.NDArray[np.float64]) -> float:
    """Area under the ROC curve.

    Args:
        truth: (images,), indices of classes; every class occurs.
        shares: (images, classes), probabilities.

    Returns:
        0 to 1; 0.5 is chance.
    """
    classes = shares.shape[1]
    if classes == 2:
        return two_class_auroc(truth == 1, shares[:, 1])
    pairs = []
    for one, other in permutations(range(classes), 2):
        both = (truth == one) | (truth == other)
        pairs.append(two_class_auroc(truth[both] == one, shares[both, one]))
    return float(np.mean(pairs))


def balanced_accuracy(truth: npt.NDArray[np.intp], shares: npt.NDArray[np.float64]) -> float:
    """The mean over the classes of the share of their images that were recognised.

    Args:
        truth: (images,), indices of classes.
        shares: (images, classes), probabilities; the highest decides.

    Returns:
        0 to 1; 1 / classes is chance.
    """
    right = shares.argmax(axis=1) == truth
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def summarise_classification(
    classes: Sequence[str], truth: Sequence[int], shares: npt.NDArray[np.float64], *, seed: int = 0
) -> ClassificationSummary:
    """Summarise the classification of all images.

    Args:
        classes: their names.
        truth: the class of each image, by its index.
        shares: (images, classes), probabilities.
        seed: of the intervals.

    Returns:
        The summary.

    Raises:
        ValueError: a class has no image: neither figure is defined then.
    """
    known = np.asarray(truth, dtype=np.intp)
    counts = np.bincount(known, minlength=len(classes))
    if not counts.all():
        raise ValueError(f"no image is of class {classes[int(counts.argmin())]}")
    areas, rates = (_interval(figure, known, shares, seed) for figure in (class_auroc, balanced_accuracy))
    return ClassificationSummary(
        classes=tuple(classes),
        images={name: int(count) for name, count in zip(classes, counts, strict=True)},
        auroc=class_auroc(known, shares),
        auroc_interval=areas,
        balanced_accuracy=balanced_accuracy(known, shares),
        balanced_accuracy_interval=rates,
    )


def drawn_by_class(truth: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Resample images class by class, so that every draw has all classes.

    Args:
        truth: (images,), indices of classes.
        rng: draws.

    Returns:
        (images,), the places that were drawn.
    """
    places = [np.flatnonzero(truth == label) for label in np.unique(truth)]
    return np.concatenate([own[rng.integers(len(own), size=len(own))] for own in places])


def two_class_auroc(positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> float:
    """The area under the ROC curve: how many pairs of a positive and a negative the score orders rightly.

    That is Mann and Whitney's statistic. scikit-learn's function gives the same; its checks of every call took most of
    the time of two thousand draws.

    Args:
        positive: (n,), what is; some are and some are not.
        score: (n,), higher for what is thought positive.

    Returns:
        0 to 1, ties counted half.
    """
    count = int(positive.sum())
    above = rankdata(score)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))


def _interval(
    figure: Callable[[npt.NDArray[np.intp], npt.NDArray[np.float64]], float],
    truth: npt.NDArray[np.intp],
    shares: npt.NDArray[np.float64],
    seed: int,
) -> BootstrapInterval:
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(_RESAMPLES):
        chosen = drawn_by_class(truth, rng)
        draws.append(figure(truth[chosen], shares[chosen]))
    return percentile_interval(draws)
