"""Lesion by lesion: which connected pieces of a reference a prediction finds, and which of its own are false."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from meduniseg_core.images.boxes import box_of


class LesionCounts(BaseModel):
    """Connected pieces (neighbours share a face, an edge or a corner) of one class.

    ``reference`` counts those of the reference, ``found`` those of them that the prediction touches, ``false`` the
    predicted ones that touch none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: int = 0
    found: int = 0
    false: int = 0

    @property
    def f1(self) -> float:
        """2 found / (found + reference + false); 1 where there is nothing to find and nothing was predicted."""
        total = self.found + self.reference + self.false
        return 2 * self.found / total if total else 1.0


def count_lesions(prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> LesionCounts:
    """Count the lesions of one class in one image.

    Args:
        prediction: bool, of any shape.
        reference: bool, of the same shape.

    Returns:
        The counts.
    """
    box = box_of(prediction | reference)
    if box is None:
        return LesionCounts()
    guess, truth = prediction[box], reference[box]
    neighbours = np.ones((3,) * guess.ndim, dtype=bool)
    there, lesions = ndimage.label(truth, neighbours)
    predicted, pieces = ndimage.label(guess, neighbours)
    return LesionCounts(
        reference=int(lesions),
        found=len(np.unique(there[guess & truth])),
        false=int(pieces) - len(np.unique(predicted[guess & truth])),
    )


def all_lesions(counts: Iterable[LesionCounts]) -> LesionCounts:
    """Add up the counts of several images.

    Args:
        counts: One for each image.

    Returns:
        The sums.
    """
    listed = list(counts)
    return LesionCounts(
        reference=sum(one.reference for one in listed),
        found=sum(one.found for one in listed),
        false=sum(one.false for one in listed),
    )
