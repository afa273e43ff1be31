"""The scores of one case, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.lesions import LesionCounts, count_lesions
from meduniseg_core.evaluation.metrics import surface_distances
from meduniseg_core.images import Image, join_labels


class ClassScores(BaseModel):
    """One foreground class of one case.

    Lengths are in the case's ``unit``, volumes in ml (in pixels where the unit is px). ``hd95`` and ``surface_dice``
    are None where surface metrics were not asked for, ``lesions`` where lesions were not counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: int
    name: str
    dice: float
    hd95: float | None
    surface_dice: float | None
    prediction_volume: float
    reference_volume: float
    lesions: LesionCounts | None = None


class CaseScores(BaseModel):
    """One case: all classes, in order of label id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    dimension: Literal[2, 3]
    unit: Literal["mm", "px"]
    missing: bool = False
    classes: tuple[ClassScores, ...]

    @property
    def dice(self) -> float:
        """Mean Dice over the classes (docs/spec.md section 9); 1 where there is no class at all."""
        return float(np.mean([scores.dice for scores in self.classes])) if self.classes else 1.0

    def with_classes(self, names: Mapping[int, str], surface: bool, lesions: bool) -> CaseScores:
        """Restrict the scores to chosen classes. A class without scores counts as absent from both masks.

        Args:
            names: Label id -> name.
            surface: Whether surface metrics are measured.
            lesions: Whether lesions are counted.

        Returns:
            A copy with these classes, in order of label id.
        """
        known = {scores.label: scores for scores in self.classes}
        classes = tuple(
            known[label].model_copy(update={"name": name}) if label in known else _absent(label, name, surface, lesions)
            for label, name in sorted(names.items())
        )
        return self.model_copy(update={"classes": classes})


def _absent(label: int, name: str, surface: bool, lesions: bool) -> ClassScores:
    return ClassScores(
        label=label,
        name=name,
        dice=1.0,
        hd95=0.0 if surface else None,
        surface_dice=1.0 if surface else None,
        prediction_volume=0.0,
        reference_volume=0.0,
        lesions=LesionCounts() if lesions else None,
    )


def evaluate_case(
    prediction: Image | None,
    reference: Image,
    names: Mapping[int, str] | None = None,
    *,
    case: str = "",
    tolerance: float = 2.0,
    surface: bool = True,
    lesions: bool = True,
    ignored: int | None = None,
) -> CaseScores:
    """Compare two label maps of one image. Their axes may be in different orders, and either may be cropped.

    Args:
        prediction: The label map to be judged, ``(1, D, H, W)``; None counts as an empty one.
        reference: The label map it is compared with, ``(1, D, H, W)``.
        names: The foreground classes, label id -> name; None takes the ids found in either map.
        case: The case's name, for the report and for errors.
        tolerance: The tolerance of the surface Dice, in mm (pixels where the images have no size).
        surface: Whether to measure surface Dice and HD95.
        lesions: Whether to count connected pieces that were found, missed and invented.
        ignored: The reference's label of voxels that do not count.

    Returns:
        The scores, class by class.

    Raises:
        BadInputError: The two maps do not lie on one grid.
    """
    if prediction is not None:
        prediction, reference = on_one_grid(prediction, reference, case)
    truth = reference.array[0]
    guess = prediction.array[0] if prediction is not None else np.zeros_like(truth)
    if ignored is not None:
        unknown = truth == ignored
        truth, guess = np.where(unknown, 0, truth), np.where(unknown, 0, guess)
    present = {int(label) for array in (truth, guess) for label in np.unique(array)} - {0}
    if names is None:
        names = {label: f"label {label}" for label in present}
    physical = reference.physical
    spacing = reference.geometry.spacing if physical else (1.0, 1.0, 1.0)
    scores = CaseScores(
        case=case or reference.name,
        dimension=2 if reference.is_2d else 3,
        unit="mm" if physical else "px",
        missing=prediction is None,
        classes=tuple(
            _class_scores(guess, truth, label, name, spacing, tolerance if surface else None, physical, lesions)
            for label, name in sorted(names.items())
            if label in present
        ),
    )
    return scores.with_classes(names, surface, lesions)


def _class_scores(
    guess: np.ndarray,
    truth: np.ndarray,
    label: int,
    name: str,
    spacing: tuple[float, float, float],
    tolerance: float | None,
    physical: bool,
    lesions: bool,
) -> ClassScores:
    g, t = guess == label, truth == label
    volumes = int(np.count_nonzero(g)), int(np.count_nonzero(t))
    distances = surface_distances(g, t, spacing) if tolerance is not None else None
    voxel = float(np.prod(spacing)) / 1000 if physical else 1.0
    return ClassScores(
        label=label,
        name=name,
        dice=2 * int(np.count_nonzero(g & t)) / sum(volumes),  # the label is present in one of them
        hd95=distances.hausdorff95 if distances else None,
        surface_dice=distances.surface_dice(tolerance) if distances and tolerance is not None else None,
        prediction_volume=volumes[0] * voxel,
        reference_volume=volumes[1] * voxel,
        lesions=count_lesions(g, t) if lesions else None,
    )


def on_one_grid(prediction: Image, reference: Image, case: str = "") -> tuple[Image, Image]:
    """Put both label maps on one grid (:func:`join_labels`).

    Args:
        prediction: the label map to be judged.
        reference: the label map it is compared with.
        case: the case's name, for errors.

    Returns:
        Prediction and reference on the grid that holds both.

    Raises:
        BadInputError: they have no common grid; the case is named.
    """
    try:
        return join_labels(prediction, reference)
    except BadInputError as error:
        name = f"case {case}" if case else prediction.name
        raise BadInputError(f"The prediction of {name} and its reference lie differently in space: {error}") from error
