"""What a task's training images and classes are like. Its plan holds this, so that unusual images can be recognised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("a range's first number is the lower one")
    return span


Range = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
"""The lowest and the highest value over the cases."""

SizeUnit = Literal["ml", "mm2", "share"]
"""``share``: a share of the image's pixels, where they have no size in mm."""


class ClassStatistics(BaseModel):
    """One class, over the cases that hold it.

    ``size`` is in the task's unit. ``intensity`` is the mean over the class per channel: in HU where the task takes CT,
    else in standard deviations from the image's mean. ``centre`` is the class's centre along (d, h, w) of the canonical
    grid, from 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int = Field(ge=1)
    size: Range
    intensity: tuple[Range, ...]
    centre: tuple[Range, Range, Range]


class Detail(BaseModel):
    """How fine the images' detail is on the grid that the network sees (see `preprocessing.detail`).

    ``mean`` and ``precision`` (inverse covariance) describe the features; ``largest`` is the training images' largest
    distance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[Finite, ...]
    precision: tuple[tuple[Finite, ...], ...]
    largest: Finite = Field(gt=0)


class TaskStatistics(BaseModel):
    """Statistics of one task's training images; geometry along (d, h, w) in canonical orientation.

    ``extent`` is that of the whole image in mm (in pixels where it has no size). ``oriented``: whether every image's
    file gives its orientation. ``classes`` are in the plan's order, None for a class that no image holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int = Field(ge=1)
    oriented: bool
    size_unit: SizeUnit
    extent: tuple[Range, Range, Range]
    spacing: tuple[Range, Range, Range] | None = None
    detail: Detail | None = None
    classes: tuple[ClassStatistics | None, ...]


def widened(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Find the range that holds two ranges.

    Args:
        one: (lowest, highest).
        other: Another range.

    Returns:
        The range around both.
    """
    return min(one[0], other[0]), max(one[1], other[1])


def join_statistics(one: TaskStatistics, other: TaskStatistics) -> TaskStatistics:
    """Join the statistics of two sets of images, such as a base model's and those of its fine-tuning.

    Args:
        one: Statistics of some images.
        other: Statistics of others, for the same classes.

    Returns:
        Statistics of all; ``detail`` is that of the larger set.
    """
    many = max(one, other, key=lambda statistics: statistics.cases)
    return TaskStatistics(
        cases=one.cases + other.cases,
        oriented=one.oriented and other.oriented,
        size_unit=one.size_unit,
        extent=_widened3(one.extent, other.extent),
        spacing=None if one.spacing is None or other.spacing is None else _widened3(one.spacing, other.spacing),
        detail=many.detail,
        classes=tuple(_joined_class(a, b) for a, b in zip(one.classes, other.classes, strict=True)),
    )


def _joined_class(one: ClassStatistics | None, other: ClassStatistics | None) -> ClassStatistics | None:
    if one is None or other is None:
        return one or other
    return ClassStatistics(
        cases=one.cases + other.cases,
        size=widened(one.size, other.size),
        intensity=tuple(widened(a, b) for a, b in zip(one.intensity, other.intensity, strict=True)),
        centre=_widened3(one.centre, other.centre),
    )


def _widened3(
    one: tuple[Range, Range, Range], other: tuple[Range, Range, Range]
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    return widened(one[0], other[0]), widened(one[1], other[1]), widened(one[2], other[2])
