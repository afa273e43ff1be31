"""Labels on a DICOM series, with what an object about them says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from meduniseg_core.catalog.segment_codes import SegmentCodes, segment_codes
from meduniseg_core.errors import BadInputError
from meduniseg_core.images.grid import place_labels
from meduniseg_core.images.image import Image
from meduniseg_core.images.palette import Colour, class_colour, free_colours

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]


@dataclass(frozen=True)
class Segment:
    """One class: its number from 1 in the object, which label map it is in, its id there, its name and colour (RGB, 0
    to 255)."""

    number: int
    part: int
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

    def ids(self, placed: np.ndarray) -> list[int]:
        """List the classes. Those that were searched for and not found are listed, too.

        Args:
            placed: The label ids, see `placed`.

        Returns:
            Their ids, ascending.
        """
        found = np.flatnonzero(np.bincount(placed.ravel(), minlength=1))
        return sorted({*self.classes, *(int(label) for label in found)} - {0})

    def name_of(self, label: int) -> str:
        """The name of a class.

        Args:
            label: Its id.

        Returns:
            The name, made of the id where the class has none.
        """
        return self.classes.get(label, f"label {label}")


@dataclass(frozen=True, eq=False)
class PlacedLabels:
    """What one object is made of: the label maps of one series (one for each task), put on its planes.

    ``arrays[i]`` (D, H, W) are the ids of ``parts[i]`` on exactly the image's grid. Segments are numbered 1, 2, ...
    without gaps, as DICOM demands, part after part and in the order of the ids.
    """

    parts: tuple[LabelledSeries, ...]
    arrays: tuple[np.ndarray, ...]
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, parts: Sequence[LabelledSeries]) -> PlacedLabels:
        """Put label maps on the planes of their series.

        Args:
            parts: The label maps, at least one, all of the same image.

        Returns:
            The maps and their segments. Classes of one name in several maps get their task's name, too; a colour that
            an earlier map has is replaced by a free one.

        Raises:
            BadInputError: Labels lie on another grid, or there is no class at all.
        """
        arrays = tuple(part.placed() for part in parts)
        listed = [(number, label) for number, part in enumerate(parts) for label in part.ids(arrays[number])]
        if not listed:
            raise BadInputError(
                f"The labels of {parts[0].image.name} hold no class; draw or name one before saving them."
            )
        same = Counter(parts[number].name_of(label) for number, label in listed)
        segments: list[Segment] = []
        taken: set[Colour] = set()
        for part, (own, placed) in enumerate(zip(parts, arrays, strict=True)):
            before = set(taken)
            for label in own.ids(placed):
                name, colour = own.name_of(label), own.colours.get(label, class_colour(label))
                colour = colour if colour not in before else free_colours(1, taken)[0]
                taken.add(colour)
                said = f"{name} ({own.task})" if same[name] > 1 else name
                segments.append(Segment(len(segments) + 1, part, label, said, colour))
        return cls(tuple(parts), arrays, tuple(segments))

    @property
    def image(self) -> Image:
        """The image that the labels belong to."""
        return self.parts[0].image

    @property
    def version(self) -> str:
        """The program's version."""
        return self.parts[0].version

    @property
    def tasks(self) -> str:
        """The tasks' names, with commas."""
        return ", ".join(dict.fromkeys(part.task for part in self.parts))

    @property
    def algorithms(self) -> str:
        """The models' names, with commas; empty for labels drawn by hand."""
        return ", ".join(dict.fromkeys(part.algorithm for part in self.parts if part.algorithm))

    def of_segment(self, segment: Segment) -> LabelledSeries:
        """The label map that a segment is in.

        Args:
            segment: One of ``segments``.

        Returns:
            The label map, with what is known about it.
        """
        return self.parts[segment.part]

    def codes(self, segment: Segment) -> SegmentCodes:
        """What a segment is, in codes.

        Args:
            segment: One of ``segments``.

        Returns:
            Its category, type, and where it lies.
        """
        part = self.of_segment(segment)
        return segment_codes(part.name_of(segment.label), part.task)

    def mask(self, segment: Segment) -> np.ndarray:
        """The voxels of a segment.

        Args:
            segment: One of ``segments``.

        Returns:
            bool ``(D, H, W)``.
        """
        inside: np.ndarray = self.arrays[segment.part] == segment.label
        return inside
