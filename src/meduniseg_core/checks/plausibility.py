"""Checks whether a result is plausible: size, intensity and position of its classes against the training cases."""

from __future__ import annotations

import math
from collections.abc import Iterator

from meduniseg_core.images import Finding, Image, canonical_orientation
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.class_statistics import ClassFacts, class_facts, size_unit
from meduniseg_core.preprocessing.statistics import ClassStatistics, TaskStatistics

_ALWAYS = 12  # cases; a class that all of at least so many hold is missed where it is not found
_UNITS = {"ml": "ml", "mm2": "mm²", "share": "% of the image"}
# how far beyond the training's range is implausible: a part of that range, and at least an amount of its own
_SIZE_FACTOR, _SIZE_PART = 4.0, 0.5  # of the logarithms
_HU, _DEVIATIONS, _INTENSITY_PART = 100.0, 0.75, 0.75
_PLACE, _PLACE_PART = 0.15, 0.5
_SAME_EXTENT = 1.5  # a place is a share of the image: it says nothing where the image shows more or less


def check_result(image: Image, labels: Image, plan: TaskPlan, *, whole: bool) -> tuple[Finding, ...]:
    """Compare the classes of a result with the statistics of the training cases.

    Args:
        image: (C, D, H, W), as the task takes it.
        labels: (1, D, H, W) on the image's grid.
        plan: the task's plan.
        whole: whether the whole image was segmented. In a box part of a class may be missing, so sizes and positions
            are not compared.

    Returns:
        One finding for each class that differs much; empty if the plan has no statistics.
    """
    known = plan.statistics
    fits = image.is_2d == (plan.dimension == 2) and image.channels == len(plan.channels)
    if known is None or not fits or len(known.classes) != len(plan.classes) or size_unit(image) != known.size_unit:
        return ()
    placed = whole and _shows_as_much(image, known)
    found = []
    for name, usual, facts in zip(plan.classes, known.classes, class_facts(image, labels, plan), strict=True):
        if usual is None:
            continue
        if facts is None:
            if whole and known.cases >= _ALWAYS and usual.cases == known.cases:
                text = (
                    f"No {name} was found in {image.name}, and all {known.cases} training images hold it: look at it."
                )
                found.append(Finding("implausible_result", text))
            continue
        reasons = list(_reasons(facts, usual, known, plan, whole, placed))
        if reasons:
            text = (
                f"What was found as {name} in {image.name} is unlike the training's: {'; '.join(reasons)}. Look at it."
            )
            found.append(Finding("implausible_result", text))
    return tuple(found)


def _reasons(
    facts: ClassFacts, usual: ClassStatistics, known: TaskStatistics, plan: TaskPlan, whole: bool, placed: bool
) -> Iterator[str]:
    if whole:
        low, high = (math.log(value) for value in usual.size)
        margin = math.log(_SIZE_FACTOR) + _SIZE_PART * (high - low)
        if not low - margin <= math.log(facts.size) <= high + margin:
            factor = 100 if known.size_unit == "share" else 1
            sizes = [f"{value * factor:.3g}" for value in (facts.size, *usual.size)]
            yield f"its size is {sizes[0]} {_UNITS[known.size_unit]}, in training {sizes[1]} to {sizes[2]}"
    for channel, (own, (low, high)) in enumerate(zip(facts.intensity, usual.intensity, strict=True)):
        hounsfield = plan.normalisation[channel] == "ct"
        if plan.normalisation[channel] == "none":
            continue
        margin = (_HU if hounsfield else _DEVIATIONS) + _INTENSITY_PART * (high - low)
        if not low - margin <= own <= high + margin:
            where = f" in channel {plan.channels[channel]}" if len(plan.channels) > 1 else ""
            unit = "HU" if hounsfield else "standard deviations from the image's mean"
            yield f"its mean intensity{where} is {_short(own)} {unit}, in training {_short(low)} to {_short(high)}"
    if placed:
        for axis, (own, (low, high)) in enumerate(zip(facts.centre, usual.centre, strict=True)):
            margin = _PLACE + _PLACE_PART * (high - low)
            if not low - margin <= own <= high + margin:
                where = _along(axis, plan)
                yield f"its centre lies at {own:.0%} of the image {where}, in training at {low:.0%} to {high:.0%}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"


def _along(axis: int, plan: TaskPlan) -> str:
    if plan.dimension == 3:
        return ("from feet to head", "from front to back", "from right to left")[axis]
    return ("in depth", "from the top", "from the left")[axis]


def _shows_as_much(image: Image, known: TaskStatistics) -> bool:
    if known.size_unit == "share":
        return True
    geometry = canonical_orientation(image)[0].geometry
    axes = (1, 2) if image.is_2d else (0, 1, 2)
    sizes = [geometry.shape[axis] * geometry.spacing[axis] for axis in range(3)]
    return all(known.extent[a][0] / _SAME_EXTENT <= sizes[a] <= known.extent[a][1] * _SAME_EXTENT for a in axes)
