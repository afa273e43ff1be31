"""Image-level classes from what one segmentation pass shows: encoder features and task prior, pooled over windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.inference.quality.features import VERSION
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.weights.classifier import ClassifierHead, Inputs

_PEAK = 12.0  # a logit beyond it says no more


@dataclass(frozen=True, eq=False)
class Classification:
    """An image's class: the most probable one, and the probability of each. ``segmentation`` is the same pass's."""

    name: str
    probabilities: dict[str, float]
    segmentation: Segmentation


def head_inputs(evidence: Evidence, inputs: Inputs) -> npt.NDArray[np.float64]:
    """What a head sees of an image.

    Args:
        evidence: of the task, with features.
        inputs: which part.

    Returns:
        (n,): means of the encoder's channels, mean and spread of the task prior; then, where asked for, of each class
        the highest logit and the logarithm of the share of the image that the class's probability adds up to.

    Raises:
        BadInputError: no window was run, so that nothing is known of the image.
    """
    if not evidence.features.size:
        raise BadInputError("The image holds only background, of which nothing can be said; give another image.")
    if inputs == "features":
        return evidence.features
    shown = []
    for one in evidence.classes:
        peak = min(max(one.peak, -_PEAK), _PEAK)
        shown += [peak, float(np.log((one.total + 1) / max(evidence.voxels, 1)))]
    return np.concatenate([evidence.features, shown])


def head_probabilities(head: ClassifierHead, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply a head.

    Args:
        head: the head.
        values: (n,), of :func:`head_inputs`.

    Returns:
        The probability of each class, in the head's order.

    Raises:
        UsageError: the head is for another number of inputs: of another network.
    """
    if len(values) != len(head.centre):
        raise UsageError(
            f"The head takes {len(head.centre)} numbers of an image and the network gives {len(values)}; fit it again."
        )
    scaled = (values - np.asarray(head.centre)) / np.asarray(head.scale)
    logits = np.asarray(head.weights) @ scaled + np.asarray(head.bias)
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def check_head(predictor: Predictor, head: ClassifierHead) -> None:
    """Refuse a head of another network.

    Args:
        predictor: of the model.
        head: the head.

    Raises:
        UsageError: it was fitted to another model, or to another version's features.
    """
    info = predictor.model.info
    if head.model_sha256 != predictor.model.sha256:
        raise UsageError(
            f"The head was fitted to {head.model} ({head.model_sha256[:12]}), not to {info.name} "
            f"({predictor.model.sha256[:12]}); fit it again with 'classify-fit'."
        )
    if head.features_version != VERSION:
        raise UsageError("The head was fitted by another version of this program; fit it again with 'classify-fit'.")
    info.plan_of(head.task)


def classify_image(
    predictor: Predictor,
    image: Image,
    head: ClassifierHead,
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Classification:
    """Classify an image; its segmentation comes with it, from the same pass.

    Args:
        predictor: of the head's model, without packs for the task.
        image: (C, D, H, W).
        head: the head.
        events: receives progress and messages.
        cancel: stops after the current batch of windows.

    Returns:
        The class.

    Raises:
        UsageError: the head does not belong to the model.
        BadInputError: the task cannot take the image, or it holds only background.
        CancelledError: ``cancel`` was set.
    """
    check_head(predictor, head)
    result = predictor.segment(image, head.task, evidence=True, events=events, cancel=cancel)[head.task]
    assert result.evidence is not None
    shares = head_probabilities(head, head_inputs(result.evidence, head.inputs))
    named = dict(zip(head.classes, (float(share) for share in shares), strict=True))
    return Classification(head.classes[int(shares.argmax())], named, result)
