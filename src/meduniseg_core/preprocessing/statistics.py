"""What a task's training images and classes are like: stands in its plan, so that what is far from it can be said."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("a range's first number is the lower one")
    return span


Range = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
"""Lowest and highest over the cases."""

SizeUnit = Literal["ml", "mm2", "share"]
"""``share``: of the image's pixels, where those have no size."""


class ClassStatistics(BaseModel):
    """One class over the cases that hold it.

    ``size`` in the task's unit. ``intensity``: per channel the mean over the class, in HU where the task takes CT, else
    in standard deviations from the image's mean. ``centre``: of the class along (d, h, w) of the canonical grid, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int = Field(ge=1)
    size: Range
    intensity: tuple[Range, ...]
    centre: tuple[Range, Range, Range]


class Detail(BaseModel):
    """How fine the images' detail is where the network looks at them (see `preprocessing.detail`).

    ``mean`` and ``precision`` (inverse covariance) of the features; ``largest``: the training images' largest distance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[Finite, ...]
    precision: tuple[tuple[Finite, ...], ...]
    largest: Finite = Field(gt=0)


class TaskStatistics(BaseModel):
    """Of the training images of one task; geometry along (d, h, w) in canonical orientation.

    ``extent``: of the whole image, mm (without a size: pixels). ``oriented``: whether every image says left from right.
    ``classes``: in the plan's order, None for one that no image holds.
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
    """The range that holds both."""
    return min(one[0], other[0]), max(one[1], other[1])


def joined(one: TaskStatistics, other: TaskStatistics) -> TaskStatistics:
    """Of the images of both (a base's and those of its fine-tuning); the detail is that of the many."""
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
