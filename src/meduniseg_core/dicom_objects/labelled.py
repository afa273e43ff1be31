"""Labels on a DICOM series, with what an object about them says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.grid import place_labels
from meduniseg_core.images.image import Image
from meduniseg_core.images.palette import Colour, class_colour

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]


@dataclass(frozen=True)
class Segment:
    """One class: its number from 1 in the object, its id in the label map, its name and colour (RGB, 0 to 255)."""

    number: int
    label: int
    name: str
    colour: Colour


@dataclass(frozen=True, eq=False)
class LabelledSeries:
    """A label map and the image that it belongs to, as it was read from DICOM.

    ``classes`` and ``colours`` are by label id; a labelled id without a name gets one of its number. ``algorithm`` is
    the model's name, ``algorithm_sha256`` its file's hash (None for labels drawn by hand), ``version`` the program's.
    """

    labels: Image
    image: Image
    classes: dict[int, str]
    colours: dict[int, Colour]
    task: str
    algorithm: str
    algorithm_sha256: str | None
    version: str
    algorithm_type: AlgorithmType = "AUTOMATIC"
    parameters: dict[str, str] = field(default_factory=dict)

    def placed(self) -> np.ndarray:
        """Put the labels on the planes of the series.

        Returns:
            Label ids ``(D, H, W)`` on exactly the image's grid.

        Raises:
            BadInputError: The labels lie on another grid.
        """
        array: np.ndarray = place_labels(self.labels, self.image).array[0]
        return array

    def segments(self, placed: np.ndarray) -> tuple[Segment, ...]:
        """List the classes in the order of their ids. Those that were searched for and not found are listed, too.

        Args:
            placed: The label ids, see `placed`.

        Returns:
            One segment per class, numbered from 1 without gaps, as DICOM demands.

        Raises:
            BadInputError: There is no class at all.
        """
        found = np.flatnonzero(np.bincount(placed.ravel(), minlength=1))
        ids = sorted({*self.classes, *(int(label) for label in found)} - {0})
        if not ids:
            raise BadInputError(f"The labels of {self.image.name} hold no class; draw or name one before saving them.")
        return tuple(
            Segment(number, label, self.classes.get(label, f"label {label}"), self._colour(label))
            for number, label in enumerate(ids, start=1)
        )

    def _colour(self, label: int) -> Colour:
        return self.colours.get(label, class_colour(label))
