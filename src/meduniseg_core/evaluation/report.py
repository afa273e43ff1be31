"""The report of an evaluation: one object, with all means computed from its cases."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, computed_field

from meduniseg_core.evaluation.cases import CaseScores, ClassScores
from meduniseg_core.evaluation.detection import DetectionSummary
from meduniseg_core.evaluation.intervals import BootstrapInterval, bootstrap_interval
from meduniseg_core.evaluation.lesions import all_lesions
from meduniseg_core.evaluation.metrics import EMPTY_MASK_POLICY, weighted_dice
from meduniseg_core.images import Finding

_COLUMNS = (
    *("case", "dimension", "unit", "missing", "label", "class"),
    *("dice", "hd95", "surface_dice", "prediction_volume", "reference_volume"),
    *("lesions", "lesions_found", "lesions_false"),
)


class Summary(BaseModel):
    """The mean of one score over all cases (or tasks), the 2D ones and the 3D ones; None where there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float | None
    mean_2d: float | None
    mean_3d: float | None


class ClassSummary(BaseModel):
    """One class over all cases.

    ``weighted_dice`` weighs cases with and without the class equally (SIIM's WDice), ``volume_error`` is the mean of
    the volumes' absolute differences, ``lesion_f1`` that of all cases' lesions together. ``hd95`` and ``volume_error``
    are None if the cases' units differ, and figures that were not measured are None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: int
    name: str
    dice: float
    hd95: float | None
    surface_dice: float | None
    weighted_dice: float
    volume_error: float | None
    lesion_f1: float | None


class ReportPicture(BaseModel):
    """A picture of one case: prediction left, reference right (PNG)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: Literal["worst", "median", "best"]
    case: str
    png: bytes


class Report(BaseModel):
    """The results of an evaluation: Dice per class, mean over classes, mean over cases (docs/spec.md section 9).

    The JSON can be read back (``Report.model_validate_json``); means are then computed again from the cases.
    """

    model_config = ConfigDict(frozen=True)

    title: str = "Evaluation"
    task: str = Field(default="", description="what was segmented, where it is known")
    policy: str = EMPTY_MASK_POLICY
    tolerance: float = Field(description="of the surface Dice, mm (pixels for images without size)")
    notes: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = Field(default=(), description="what was found out; their texts are notes, too")
    cases: tuple[CaseScores, ...] = Field(min_length=1)
    detection: tuple[DetectionSummary, ...] = Field(default=(), description="of each class, where boxes were compared")
    pictures: tuple[ReportPicture, ...] = Field(default=(), exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dice(self) -> Summary:
        """Mean Dice over the cases."""
        return summarise((case.dice, case.dimension) for case in self.cases)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> BootstrapInterval:
        """The bootstrap interval of the mean Dice over cases (seeded: the same report gives the same numbers)."""
        return bootstrap_interval([case.dice for case in self.cases])

    @computed_field  # type: ignore[prop-decorator]
    @property
    def classes(self) -> tuple[ClassSummary, ...]:
        """The scores of every class, over all cases."""
        same_unit = len({case.unit for case in self.cases}) == 1
        return tuple(
            ClassSummary(
                label=column[0].label,
                name=column[0].name,
                dice=float(np.mean([scores.dice for scores in column])),
                hd95=_mean([scores.hd95 for scores in column]) if same_unit else None,
                surface_dice=_mean([scores.surface_dice for scores in column]),
                weighted_dice=weighted_dice(
                    [scores.dice for scores in column], [scores.reference_volume > 0 for scores in column]
                ),
                volume_error=float(np.mean([_volume_error(scores) for scores in column])) if same_unit else None,
                lesion_f1=_lesion_f1(column),
            )
            for column in zip(*(case.classes for case in self.cases), strict=True)
        )

    def ranked(self) -> list[tuple[Literal["worst", "median", "best"], CaseScores]]:
        """Find the worst, the median and the best case by Dice, each case once.

        Returns:
            Rank and case; fewer than three where there are fewer cases.
        """
        order = sorted(self.cases, key=lambda case: (case.dice, case.case))
        chosen: list[tuple[Literal["worst", "median", "best"], CaseScores]] = [("worst", order[0])]
        if len(order) > 2:
            chosen.append(("median", order[len(order) // 2]))
        if len(order) > 1:
            chosen.append(("best", order[-1]))
        return chosen

    def json_text(self) -> str:
        """Write all scores as JSON, without the pictures.

        Returns:
            The file's text.
        """
        return self.model_dump_json(indent=2) + "\n"

    def csv_text(self) -> str:
        """Write the scores as CSV, one row per case and class.

        Returns:
            The file's text.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for case in self.cases:
            for scores in case.classes:
                figures = (scores.dice, scores.hd95, scores.surface_dice)
                volumes = (scores.prediction_volume, scores.reference_volume)
                counts = scores.lesions
                lesions = (counts.reference, counts.found, counts.false) if counts is not None else ("", "", "")
                writer.writerow(
                    [
                        *(case.case, case.dimension, case.unit, int(case.missing), scores.label, scores.name),
                        *("" if value is None else f"{value:.6g}" for value in (*figures, *volumes)),
                        *lesions,
                    ]
                )
        return stream.getvalue()


def summarise(values: Iterable[tuple[float, int]]) -> Summary:
    """Compute means over all entries, the 2D ones and the 3D ones (docs/spec.md section 9).

    Args:
        values: Pairs of value and dimension.

    Returns:
        The means; None for a group that is empty.
    """
    pairs = list(values)
    groups = [[value for value, dimension in pairs if dimension in which] for which in ((2, 3), (2,), (3,))]
    means = [float(np.mean(group)) if group else None for group in groups]
    return Summary(mean=means[0], mean_2d=means[1], mean_3d=means[2])


def _volume_error(scores: ClassScores) -> float:
    return abs(scores.prediction_volume - scores.reference_volume)


def _lesion_f1(column: Sequence[ClassScores]) -> float | None:
    counts = [scores.lesions for scores in column if scores.lesions is not None]
    return all_lesions(counts).f1 if len(counts) == len(column) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
