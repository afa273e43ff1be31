"""How far to trust a result: each class's probability to be there and its predicted Dice, and whether such images are
known to the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.inference.quality.features import VERSION, class_features, familiar, unfamiliarity
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights.calibration import Calibration, Interval, LogisticModel

Light = Literal["green", "amber", "red"]

REVIEW_BELOW = 0.5
"""The default threshold: results with a predicted Dice below it should be reviewed."""

_UNKNOWN = "How far to trust this result is not known: "
NOT_CALIBRATED = f"{_UNKNOWN}the model is not calibrated for this task."
NOT_OF_A_PACK = f"{_UNKNOWN}a calibration is of the model alone, and this task ran through a pack."
NOT_OF_SEVERAL = f"{_UNKNOWN}a calibration is of one model, and this is the mean of several."
_UNFAMILIAR = 0.01  # share of known images that lie as far away
_UNFAMILIAR_TEXT = "The image is unlike those that the model was calibrated on."


@dataclass(frozen=True)
class ClassQuality:
    """One class: whether the result holds it (``found``), the probability that the image does (``present``), and the
    predicted Dice with the bounds between which it mostly lies. A class that is rightly not found has a Dice of 1."""

    name: str
    found: bool
    present: float
    dice: float
    low: float
    high: float


@dataclass(frozen=True)
class ResultQuality:
    """The quality of one result: that of its ``classes``, in the plan's order.

    ``familiar``: the share of the images of calibration that are at least as unusual, None where not known. The bounds
    hold ``coverage`` of the true values. ``threshold``: the Dice that the user wants every class to have.
    """

    classes: tuple[ClassQuality, ...]
    familiar: float | None
    coverage: float
    threshold: float = REVIEW_BELOW

    @property
    def worst(self) -> ClassQuality:
        """The class with the lowest predicted Dice."""
        return min(self.classes, key=lambda one: (one.dice, one.low))

    @property
    def dice(self) -> float:
        """The lowest predicted Dice of a class: results are sorted by it, the worst first."""
        return self.worst.dice

    @property
    def is_unfamiliar(self) -> bool:
        """Whether the image is more unusual than nearly all images of the calibration."""
        return self.familiar is not None and self.familiar < _UNFAMILIAR

    @property
    def light(self) -> Light:
        """A traffic light: red where some class's predicted Dice lies below the threshold; amber where it may lie
        below, by its bounds, or the image is unlike those known; else green."""
        if self.dice < self.threshold:
            return "red"
        return "amber" if self.is_unfamiliar or self._may_be_low else "green"

    @property
    def sentence(self) -> str:
        """The verdict for people: what the light means, of the class that matters most."""
        lead = {"green": "Looks good", "amber": "Check it", "red": "Probably wrong"}[self.light]
        if self.light == "amber" and not self._may_be_low:
            return f"{lead}: {_UNFAMILIAR_TEXT[0].lower()}{_UNFAMILIAR_TEXT[1:]}"
        one = self.worst if self.light == "red" else min(self.classes, key=lambda entry: (entry.low, entry.dice))
        text = f"{lead}: {_reason(one)}"
        return f"{text} {_UNFAMILIAR_TEXT}" if self.is_unfamiliar else text

    @property
    def _may_be_low(self) -> bool:
        return any(one.low < self.threshold for one in self.classes)

    def as_json(self) -> dict[str, Any]:
        """Describe the quality as JSON.

        Returns:
            Light, sentence, threshold and all numbers, rounded to four digits, in JSON's types.
        """
        return {
            "calibrated": True,
            "light": self.light,
            "sentence": self.sentence,
            "threshold": self.threshold,
            "dice": round(self.dice, 4),
            "familiar": None if self.familiar is None else round(self.familiar, 4),
            "coverage": self.coverage,
            "classes": {
                one.name: {
                    "found": one.found,
                    "present": round(one.present, 4),
                    "dice": round(one.dice, 4),
                    "dice_low": round(one.low, 4),
                    "dice_high": round(one.high, 4),
                }
                for one in self.classes
            },
        }


def quality_record(quality: ResultQuality | None, unknown: str = NOT_CALIBRATED) -> dict[str, Any]:
    """What a result's JSON says of its quality, also where it is not known.

    Args:
        quality: of the result.
        unknown: the sentence that says why it is not known.

    Returns:
        In JSON's types.
    """
    return {"calibrated": False, "sentence": unknown} if quality is None else quality.as_json()


def quality_from(record: Mapping[str, Any]) -> ResultQuality | None:
    """Read what `quality_record` wrote.

    Args:
        record: the JSON's "quality".

    Returns:
        The quality; None where the model was not calibrated.

    Raises:
        ValueError: it is not what was written.
    """
    try:
        if not record["calibrated"]:
            return None
        classes = tuple(
            ClassQuality(
                str(name),
                bool(one["found"]),
                float(one["present"]),
                float(one["dice"]),
                float(one["dice_low"]),
                float(one["dice_high"]),
            )
            for name, one in record["classes"].items()
        )
        familiar = None if record["familiar"] is None else float(record["familiar"])
        return ResultQuality(classes, familiar, float(record["coverage"]), float(record["threshold"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("a result's quality is not what it should be") from error


def assess(
    evidence: Evidence | None, plan: TaskPlan, calibration: Calibration | None, threshold: float = REVIEW_BELOW
) -> ResultQuality | None:
    """Estimate how far to trust a result.

    Args:
        evidence: what the pass showed about itself.
        plan: of its task.
        calibration: of its model.
        threshold: the Dice that the user wants.

    Returns:
        The quality; None where the model is not calibrated for the task, or was calibrated with other features.
    """
    if evidence is None or calibration is None or calibration.version != VERSION or not calibration.covers(plan):
        return None
    task = calibration.of(plan.task)
    assert task is not None
    unfamiliar = unfamiliarity(evidence.features, task.space)
    classes = []
    for position, known in enumerate(task.classes):
        features = class_features(evidence, position, known, unfamiliar)
        found = evidence.classes[position].voxels > 0
        if found:
            present = probability(calibration.present_found, features)
            dice = probability(calibration.dice, features, known.offset)
            interval = interval_of(calibration.intervals, dice)
            low, high = max(0.0, dice - interval.low), min(1.0, dice + interval.high)
        else:  # right (1) or wrong (0), and nothing between
            present = probability(calibration.present_missed, features)
            dice = 1 - present
            rare = (1 - calibration.coverage) / 2
            low, high = float(dice >= 1 - rare), float(dice > rare)
        classes.append(ClassQuality(known.name, found, present, dice, low, high))
    return ResultQuality(tuple(classes), familiar(evidence.features, task.space), calibration.coverage, threshold)


def probability(model: LogisticModel, features: Mapping[str, float], offset: float = 0.0) -> float:
    """Compute the prediction of a logistic model.

    Args:
        model: the model; features that it does not name are passed over.
        features: by name.
        offset: added to its log-odds.

    Returns:
        0 to 1; the model's own value for no evidence where a feature that it names is not there.
    """
    total = model.bias + offset
    for name, centre, scale, weight in zip(model.features, model.centre, model.scale, model.weights, strict=True):
        total += weight * (features.get(name, centre) - centre) / scale
    return 1 / (1 + math.exp(-min(max(total, -30.0), 30.0)))


def interval_of(intervals: tuple[Interval, ...], dice: float) -> Interval:
    """The interval for a prediction.

    Args:
        intervals: in rising order.
        dice: as predicted.

    Returns:
        The first that reaches so far.
    """
    return next((interval for interval in intervals if dice <= interval.until), intervals[-1])


def _reason(one: ClassQuality) -> str:
    if not one.found:
        if one.present >= 0.5:
            return f"no {one.name} was found, and the image probably holds it ({one.present:.0%})."
        return f"no {one.name} was found, and the image probably holds none ({1 - one.present:.0%} sure)."
    if one.present < 0.5:
        return f"the {one.name} that was found is probably not there ({1 - one.present:.0%} sure)."
    return f"predicted Dice of {one.name} {one.dice:.2f} ({one.low:.2f} to {one.high:.2f})."
