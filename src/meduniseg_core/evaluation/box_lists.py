"""Detection from the lists of boxes that lie beside label maps (``segment --boxes``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.detection import (
    OVERLAP,
    Candidate,
    DetectionSummary,
    lesion_boxes,
    match_boxes,
    summarise_detection,
)
from meduniseg_core.images import Image, place_labels, read_labels
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.instances import boxes_name, read_boxes

_T = TypeVar("_T")
_Case = tuple[dict[int, list[Candidate]], dict[int, list[Box]]]


@dataclass
class BoxComparison:
    """Collects candidates and lesions case by case, by label id. ``overlap`` is the least IoU that counts as found."""

    overlap: float = OVERLAP
    cases: list[_Case] = field(default_factory=list)

    def add(self, case: str, prediction: Path | None, truth: Image, ignored: int | None = None) -> None:
        """Add a case.

        Args:
            case: its name, for errors.
            prediction: its label map, which has a list of boxes beside it; None: nothing was found.
            truth: its reference, (1, D, H, W).
            ignored: the reference's label of voxels that do not count.

        Raises:
            BadInputError: there is no list of boxes, or it is of another grid.
        """
        candidates: dict[int, list[Candidate]] = {}
        if prediction is not None:
            path = prediction.with_name(boxes_name(prediction))
            if not path.is_file():
                raise BadInputError(
                    f"Case {case} has no list of boxes ({path.name} beside its label map); segment it with --boxes."
                )
            own, listed = read_labels(prediction), read_boxes(path)
            if listed.shape != own.geometry.shape:
                raise BadInputError(
                    f"{path} is of a grid of {listed.shape} and its label map has {own.geometry.shape}; segment the "
                    "image again with --boxes."
                )
            truth = place_labels(truth, own)
            for one in listed.instances:
                candidates.setdefault(one.label, []).append(Candidate(one.box, one.score))
        array = truth.array[0]
        there = (int(label) for label in np.unique(array) if label not in (0, ignored))
        self.cases.append((candidates, {label: lesion_boxes(array == label) for label in there}))

    def summary(self, names: Mapping[int, str], only: int | None = None) -> tuple[DetectionSummary, ...]:
        """Summarise the detection of each class.

        Args:
            names: the classes, label id -> name.
            only: the id that stands for the one class of binary masks, whatever ids they have.

        Returns:
            One summary for each class.
        """
        return tuple(
            summarise_detection(
                label,
                name,
                [
                    match_boxes(_of(candidates, label, only), _of(lesions, label, only), self.overlap)
                    for candidates, lesions in self.cases
                ],
                self.overlap,
            )
            for label, name in sorted(names.items())
        )


def _of(by_label: Mapping[int, list[_T]], label: int, only: int | None) -> list[_T]:
    return [one for key, listed in by_label.items() if only is not None or key == label for one in listed]
