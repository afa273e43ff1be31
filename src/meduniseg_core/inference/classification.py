"""Image-level classes from what one segmentation pass shows: encoder features and task prior, pooled over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.findings import Finding, merge, report
from meduniseg_core.inference.image_class import ImageClass
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.inference.quality.features import VERSION
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.weights.classifier import ClassifierHead, Inputs

_PEAK = 12.0  # a logit beyond it says no more


def check_shows_something(evidence: Evidence, name: str) -> None:
    """Refuse an image of which no window was run.

    Args:
        evidence: of a task, with features.
        name: the image's.

    Raises:
        BadInputError: it is such an image.
    """
    if not evidence.features.size:
        raise BadInputError(f"{name} holds only background, of which nothing can be said; leave it out.")


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
    check_shows_something(evidence, "The image")
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
        UsageError: it was fitted to another model, or to another version's features, or a pack changes the network for
            its task.
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
    pack = predictor.packs.get(head.task)
    if pack is not None:
        raise UsageError(
            f"The head was fitted to {head.model} alone, and {head.task} runs through the pack {pack.info.name}; leave "
            "out the pack or the head."
        )


def segment_with_head(
    predictor: Predictor,
    image: Image,
    tasks: Sequence[str],
    head: ClassifierHead,
    *,
    box: Box | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
    **settings: Any,
) -> dict[str, Segmentation]:
    """Segment an image, and say its class from the same pass.

    A head is for whole images that show something: of a part, or of background alone, no class is said, which a finding
    tells.

    Args:
        predictor: of the head's model, without a pack for its task.
        image: (C, D, H, W).
        tasks: the head's task, and others of the model.
        head: the head.
        box: as for `Predictor.segment`.
        events: receives progress and messages.
        cancel: stops after the current batch of windows.
        **settings: the other arguments of `Predictor.segment`.

    Returns:
        The segmentation of each task; that of the head's task has an ``image_class``.

    Raises:
        UsageError: the head does not belong to the model, or as `Predictor.segment`.
        BadInputError: as `Predictor.segment`.
        CancelledError: ``cancel`` was set.
    """
    check_head(predictor, head)
    results = predictor.segment(image, tasks, box=box, evidence=True, events=events, cancel=cancel, **settings)
    own = results[head.task]
    if box is None and own.evidence is not None and own.evidence.features.size:
        return {**results, head.task: _classified(own, head)}
    why = "it holds only background" if box is None else "a part of it was segmented, and the head is for whole images"
    finding = Finding("class_not_said", f"{image.name} is given no class: {why}.", "info")
    report([finding], events)
    return {**results, head.task: replace(own, findings=merge(own.findings, [finding]))}


def classify_image(
    predictor: Predictor,
    image: Image,
    head: ClassifierHead,
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Segmentation:
    """Classify an image, as `segment_with_head` does, but for its class alone.

    Args:
        predictor: of the head's model, without a pack for its task.
        image: (C, D, H, W).
        head: the head.
        events: receives progress and messages.
        cancel: stops after the current batch of windows.

    Returns:
        The segmentation of the pass, with its ``image_class``.

    Raises:
        UsageError: the head does not belong to the model.
        BadInputError: the task cannot take the image, or it holds only background.
        CancelledError: ``cancel`` was set.
    """
    check_head(predictor, head)
    found = predictor.segment(image, head.task, evidence=True, events=events, cancel=cancel)[head.task]
    assert found.evidence is not None
    check_shows_something(found.evidence, image.name)
    return _classified(found, head)


def _classified(result: Segmentation, head: ClassifierHead) -> Segmentation:
    """Add the image's class to a result that has its evidence."""
    assert result.evidence is not None
    shares = head_probabilities(head, head_inputs(result.evidence, head.inputs))
    named = dict(zip(head.classes, (float(share) for share in shares), strict=True))
    return replace(result, image_class=ImageClass(head.classes[int(shares.argmax())], named, head.sha256))
