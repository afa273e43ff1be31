"""What was learned about a model's own results: stands in its file, so that each result can say how far to trust it.

Fitted by `adaptation.calibrate`, used by `inference.quality`. Everything is bounded and finite: a file may come from a
stranger.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.preprocessing.plan import TaskPlan

Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Spread = tuple[Number, Positive]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogisticModel(_Stored):
    """``sigmoid(bias + weights . (features - centre) / scale)``; ``features``: their names, in order."""

    features: tuple[Name, ...] = Field(max_length=100)
    centre: tuple[Number, ...]
    scale: tuple[Positive, ...]
    weights: tuple[Number, ...]
    bias: Number

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if {len(self.centre), len(self.scale), len(self.weights)} != {len(self.features)}:
            raise ValueError("a logistic model needs a centre, a scale and a weight for each feature")
        return self


class Interval(_Stored):
    """For predictions up to ``until``: the true value lies between ``low`` below and ``high`` above, mostly."""

    until: Share
    low: Share
    high: Share


class FeatureSpace(_Stored):
    """What the encoder makes of the images it knows: mean, main directions (orthonormal rows), variances along them and
    around them. ``distances``: ascending, of images of the kind that the space was not made of."""

    mean: tuple[Number, ...] = Field(min_length=1, max_length=1 << 14)
    scale: tuple[Positive, ...]
    directions: tuple[tuple[Number, ...], ...] = Field(max_length=64)
    variances: tuple[Positive, ...]
    rest: Positive
    distances: tuple[Number, ...] = Field(min_length=1, max_length=101)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.scale) != len(self.mean) or any(len(row) != len(self.mean) for row in self.directions):
            raise ValueError("the directions of a feature space are as long as its mean")
        if len(self.variances) != len(self.directions):
            raise ValueError("a feature space needs a variance for each direction")
        if list(self.distances) != sorted(self.distances):
            raise ValueError("the distances of a feature space ascend")
        return self


class ClassCalibration(_Stored):
    """One class: mean and spread of the logarithm of its share of the image, and of its centre along each axis as a
    share of it; and how much better or worse than others it does at the same evidence (log-odds of the Dice)."""

    name: Name
    size: Spread | None = None
    centre: tuple[Spread, Spread, Spread] | None = None
    offset: Number = 0.0


class TaskCalibration(_Stored):
    """One task: its classes in the plan's order, and what its images look like (None: too few of them)."""

    task: Name
    classes: tuple[ClassCalibration, ...] = Field(min_length=1, max_length=1000)
    space: FeatureSpace | None = None
    images: int = Field(ge=1, description="that it was learned from, changed copies not counted")


class Calibration(_Stored):
    """The calibration of a model's own results; every task shares the three models.

    ``present_found`` and ``present_missed``: whether a class is in the image, where the result holds it and where not.
    ``dice``: of a class that the result holds. ``intervals``: by rising prediction; the last one's ``until`` is 1. They
    hold ``coverage`` of the true values.
    """

    version: int = Field(default=1, ge=1, description="of the features' meaning (`quality.features.VERSION`)")
    present_found: LogisticModel
    present_missed: LogisticModel
    dice: LogisticModel
    intervals: tuple[Interval, ...] = Field(min_length=1, max_length=20)
    coverage: Share
    tasks: tuple[TaskCalibration, ...] = Field(min_length=1, max_length=1000)
    provenance: dict[str, Any] = Field(default_factory=dict, description="data sets, images, copies, version, date")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({task.task for task in self.tasks}) != len(self.tasks):
            raise ValueError("a task is calibrated once")
        ends = [interval.until for interval in self.intervals]
        if ends != sorted(ends) or ends[-1] != 1:
            raise ValueError("intervals are in rising order, the last until 1")
        return self

    def of(self, task: str) -> TaskCalibration | None:
        """The entry of a task.

        Args:
            task: its name.

        Returns:
            The entry; None where the task was not calibrated.
        """
        return next((entry for entry in self.tasks if entry.task == task), None)

    def covers(self, plan: TaskPlan) -> bool:
        """Whether a task of these very classes was calibrated.

        Args:
            plan: of the task.

        Returns:
            True if it was.
        """
        entry = self.of(plan.task)
        return entry is not None and tuple(one.name for one in entry.classes) == plan.classes
