"""Teaching by strokes: every stroke refines a classifier of the image's voxels, whose labels update at once.

The label of a voxel maximises ``log p(class | features) + log p(a random walk from it meets the class's strokes)``.
Where labels are corrected, two rules keep the rest: a voxel changes only within a distance of a stroke
(``Teacher.reach_mm``), and only if it is connected with a stroke of its new class through voxels that change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images.boxes import Slices
from meduniseg_core.interactive.classifier import VoxelClassifier
from meduniseg_core.interactive.strokes import Stroke
from meduniseg_core.interactive.taught import ImageFeatures

WALK_WEIGHT = 1.0
"""How much the walk counts beside the classifier; tried on six training images only."""

STROKE_WEIGHT = 10.0
"""How many independent voxels a stroke counts as, however many it has: neighbours say nearly the same. So with few
strokes the classifier is unsure and the walk decides."""

_LEAST = 1e-3  # probability of a walk; smaller ones only mean "far"
_BLOCK = 1 << 21  # voxels labelled at a time
_SAMPLES = 300  # voxels of each class of the labels to be corrected that are learned from
_REACH = 1 / 6  # of the image's largest extent
_TOO_FEW = "Draw at least one stroke on the target and one beside it."


class Teacher:
    """The strokes on one image, and the labels that follow from them.

    Args:
        features: of the image.
        base: labels int (D, H, W) that are to be corrected; None to start from nothing.
        reach_mm: how far from a stroke corrections reach; None: a sixth of the image's largest extent.

    Raises:
        UsageError: the labels lie on another grid.
    """

    def __init__(self, features: ImageFeatures, base: np.ndarray | None = None, reach_mm: float | None = None) -> None:
        if base is not None and base.shape != features.shape:
            raise UsageError(
                f"The labels have the grid {base.shape} and the image {features.shape}; choose labels of this image."
            )
        self.features = features
        self.base = base if base is not None and base.any() else None
        extents = [size * step for size, step in zip(features.shape, features.spacing, strict=True) if size > 1]
        self.reach_mm = max(extents, default=1.0) * _REACH if reach_mm is None else reach_mm
        self.strokes: list[Stroke] = []
        self._taught = features
        if self.base is not None:
            known = sorted(int(label) for label in np.unique(self.base))
            self._taught = features.with_prediction(self.base, known)
        self._classifier: VoxelClassifier | None = None

    @classmethod
    def by_task(cls, features: ImageFeatures, classifier: VoxelClassifier) -> Teacher:
        """Label an image with the classifier of another one.

        Args:
            features: of the image.
            classifier: of the other image (`QuickTask.classifier`).

        Returns:
            A teacher without strokes; strokes replace its classifier.

        Raises:
            UsageError: the classifier was fitted to other features.
        """
        if not classifier.fits(features.parts):
            raise UsageError("This quick task was taught with other features; use its model and an image of its kind.")
        made = cls(features)
        made._classifier = classifier
        return made

    def add(self, stroke: Stroke) -> None:
        """Add a stroke; later strokes win where they cross earlier ones.

        Args:
            stroke: at least one voxel.

        Raises:
            UsageError: it is empty or leaves the image.
        """
        if stroke.where[0].size == 0:
            raise UsageError("The stroke is empty; draw it on the image.")
        shape = self.features.shape
        if any(index.min() < 0 or index.max() >= size for index, size in zip(stroke.where, shape, strict=True)):
            raise UsageError("The stroke reaches beyond the image; draw it inside.")
        self.strokes.append(stroke)
        self._classifier = None

    def undo(self) -> Stroke | None:
        """Take back the last stroke.

        Returns:
            The stroke; None if there was none.
        """
        if not self.strokes:
            return None
        self._classifier = None
        return self.strokes.pop()

    @property
    def ready(self) -> bool:
        """Whether there is enough to learn from: strokes of two classes, a stroke and labels, or a quick task."""
        if self._classifier is not None:
            return True
        return len({stroke.label for stroke in self.strokes}) > 1 or (self.base is not None and bool(self.strokes))

    @property
    def classifier(self) -> VoxelClassifier:
        """The classifier learned from all strokes.

        Raises:
            UsageError: there is too little to learn from.
        """
        if self._classifier is None:
            self._classifier = self._fit()
        return self._classifier

    def labels(self, box: Slices) -> np.ndarray:
        """Label a box of the image: the visible slice, for instance.

        Args:
            box: three slices with start and stop.

        Returns:
            (d, h, w), uint8 or uint16.

        Raises:
            UsageError: there is too little to learn from.
        """
        labels = next(self._labelled(box, [box]))[1]
        return labels if self.base is None else self._kept(labels, box)

    def whole(self, *, events: EventSink = ignore, cancel: CancelToken | None = None) -> np.ndarray:
        """Label the whole image, block by block.

        Args:
            events: receives progress for each block.
            cancel: stops after the current block.

        Returns:
            (D, H, W), uint8 or uint16.

        Raises:
            UsageError: there is too little to learn from.
            CancelledError: ``cancel`` was set.
        """
        depth, height, width = self.features.shape
        step = max(1, _BLOCK // (height * width))
        blocks: list[Slices] = [
            (slice(first, min(first + step, depth)), slice(0, height), slice(0, width))
            for first in range(0, depth, step)
        ]
        everything = slice(0, depth), slice(0, height), slice(0, width)
        began = time.perf_counter()
        found = np.zeros(self.features.shape, self._dtype())
        for number, (block, labels) in enumerate(self._labelled(everything, blocks, cancel), start=1):
            found[block] = labels
            events(Progress("teach", number, len(blocks), time.perf_counter() - began))
        return found if self.base is None else self._kept(found, everything)

    def _labelled(
        self, box: Slices, blocks: list[Slices], cancel: CancelToken | None = None
    ) -> Iterator[tuple[Slices, np.ndarray]]:
        """Labels of the blocks of a box; the walk is one for the whole box."""
        classifier, parts = self.classifier, self._taught.parts
        classes = np.asarray(classifier.classes, self._dtype())
        drawn = self._drawn(box)
        walked = self._walked(box, drawn, classifier.classes) if (drawn >= 0).any() else None
        for block in blocks:
            if cancel is not None:
                cancel.raise_if_cancelled()
            score = classifier.scores(parts, block)
            inside = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(block, box, strict=True))
            if walked is not None:
                score += WALK_WEIGHT * np.log(walked[(slice(None), *inside)] + _LEAST)
            labels = classes[score.argmax(axis=0)]
            strokes = drawn[inside]
            labels = np.where(strokes >= 0, strokes, labels).astype(classes.dtype)
            yield block, labels

    def _walked(self, box: Slices, drawn: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
        seeds = drawn
        if self.base is not None:  # beyond the strokes' reach the labels stand, as if they had been drawn
            far = self._distance(drawn) > self.reach_mm
            seeds = np.where(far & (drawn < 0), self.base[box], drawn)
        return self.features.walk_grid(box).reach(seeds, classes)

    def _kept(self, labels: np.ndarray, box: Slices) -> np.ndarray:
        """Only what is near a stroke and connected with one of its new class changes."""
        assert self.base is not None
        before, drawn = self.base[box], self._drawn(box)
        near = self._distance(drawn) <= self.reach_mm
        result = before.astype(labels.dtype)
        for label in {stroke.label for stroke in self.strokes}:
            wanted = (labels == label) & (before != label) & near
            mine = drawn == label
            parts, _ = ndimage.label(wanted | mine)
            touched = np.unique(parts[mine])
            result[np.isin(parts, touched[touched > 0]) & (wanted | mine)] = label
        return result

    def _distance(self, drawn: np.ndarray) -> np.ndarray:
        """From every voxel to the nearest stroke, in mm."""
        if not (drawn >= 0).any():
            return np.full(drawn.shape, np.inf, np.float32)
        found: np.ndarray = ndimage.distance_transform_edt(drawn < 0, sampling=self.features.spacing)
        return found

    def _drawn(self, box: Slices) -> np.ndarray:
        """The strokes' labels in a box, int32; -1 where there is none."""
        starts = [part.start for part in box]
        sizes = [part.stop - part.start for part in box]
        found = np.full(sizes, -1, np.int32)
        for stroke in self.strokes:
            place = [index - start for index, start in zip(stroke.where, starts, strict=True)]
            inside = np.all([(index >= 0) & (index < size) for index, size in zip(place, sizes, strict=True)], axis=0)
            found[tuple(index[inside] for index in place)] = stroke.label
        return found

    def _fit(self) -> VoxelClassifier:
        if not self.ready:
            raise UsageError(_TOO_FEW)
        shape = self.features.shape
        owners: dict[int, int] = {}  # which stroke a voxel belongs to: the last one over it
        for number, stroke in enumerate(self.strokes):
            flat = np.ravel_multi_index(stroke.where, shape)
            owners.update(zip(flat.tolist(), [number] * flat.size, strict=True))
        places = np.fromiter(owners.keys(), np.intp, len(owners))
        owner = np.fromiter(owners.values(), np.intp, len(owners))
        labels = np.array([stroke.label for stroke in self.strokes], np.int64)[owner]
        weights = STROKE_WEIGHT / np.bincount(owner)[owner]
        if self.base is not None:
            places, labels, weights = self._with_base(places, labels, weights)
        if np.unique(labels).size < 2:  # the labels to be corrected have no voxel of another class
            raise UsageError(_TOO_FEW)
        where = tuple(np.unravel_index(places, shape))
        return VoxelClassifier.fit(self._taught.parts, where, labels, weights)

    def _with_base(
        self, places: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Learn from the labels to be corrected, too; together they count as much as the strokes."""
        assert self.base is not None
        flat = self.base.ravel()
        taken = [places]
        for label in np.unique(flat):
            own = np.setdiff1d(np.flatnonzero(flat == label), places, assume_unique=True)
            taken.append(own[np.linspace(0, own.size - 1, min(own.size, _SAMPLES)).astype(np.intp)])
        more = np.concatenate(taken[1:])
        share = weights.sum() / max(1, more.size)
        return (
            np.concatenate([places, more]),
            np.concatenate([labels, flat[more].astype(np.int64)]),
            np.concatenate([weights, np.full(more.size, share)]),
        )

    def _dtype(self) -> type[np.unsignedinteger]:
        largest = max((stroke.label for stroke in self.strokes), default=0)
        if self._classifier is not None:
            largest = max(largest, *self._classifier.classes)
        if self.base is not None:
            largest = max(largest, int(self.base.max()))
        return np.uint8 if largest <= 255 else np.uint16
