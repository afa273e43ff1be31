"""All features of one image, and a cache of the features of the images used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Slices
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.inference import Predictor
from meduniseg_core.interactive.features import FeaturePart
from meduniseg_core.interactive.image_features import image_features
from meduniseg_core.interactive.network_features import fitting_tasks, network_features
from meduniseg_core.interactive.walk import WalkGrid

_KEPT_BYTES = 1 << 30
_GRIDS = 8


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of one image: ``parts``, the image's own first. The first ``channels`` of that part are its channels."""

    shape: Shape3
    spacing: Vector3
    channels: int
    parts: tuple[FeaturePart, ...]
    model_sha256: str | None = None
    _grids: dict[tuple[tuple[int, int], ...], WalkGrid] = field(default_factory=dict, init=False, repr=False)

    def walk_grid(self, box: Slices) -> WalkGrid:
        """Find the graph in which strokes in a box reach other voxels; the graphs of a few boxes are kept.

        Args:
            box: slices with start and stop.

        Returns:
            The graph.
        """
        key = tuple((part.start, part.stop) for part in box)
        found = self._grids.get(key)
        if found is None:
            if len(self._grids) >= _GRIDS:
                self._grids.clear()
            found = self._grids[key] = WalkGrid.of(self.parts, self.channels, self.spacing, box)
        return found

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose features there are."""
        return tuple(part.name for part in self.parts[1:])

    @property
    def bytes(self) -> int:
        """The memory that the features take."""
        return sum(part.values.nbytes for part in self.parts)

    def with_prediction(self, labels: np.ndarray, classes: Sequence[int]) -> ImageFeatures:
        """Add a predicted label map as features: one channel for each class.

        Args:
            labels: int (D, H, W).
            classes: the labels that have a channel.

        Returns:
            The features with one more part.
        """
        values = np.stack([labels == label for label in classes]).astype(np.float16)
        return replace(self, parts=(*self.parts, FeaturePart("prediction", values)))


class FeatureCache:
    """Keeps the features of the images used last, at most 1 GiB; one thread computes at a time."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str | None, tuple[str, ...]], ImageFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self,
        image: Image,
        predictor: Predictor | None,
        tasks: Sequence[str] | None = None,
        modality: str | None = None,
        *,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> ImageFeatures:
        """Compute the features of an image, or take them from the cache.

        Args:
            image: (C, D, H, W).
            predictor: the model on its device; None for the image's own features alone.
            tasks: the tasks whose features are wanted; None chooses them (`fitting_tasks`).
            modality: of the image, where it is known.
            events: receives progress.
            cancel: stops after the current batch of windows.

        Returns:
            The features.

        Raises:
            BadInputError: a task cannot take the image, or it has values that are not finite.
            OutOfMemoryError: the features would not fit into memory.
            CancelledError: ``cancel`` was set.
        """
        if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
            raise BadInputError(f"{image.name} holds values that are not finite; replace them before teaching.")
        if tasks is None:
            tasks = () if predictor is None else fitting_tasks(predictor.model.info.tasks, image, modality)
        sha256 = None if predictor is None else predictor.model.sha256
        key = image.sha256, sha256, tuple(tasks)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            parts = [image_features(image)]
            if predictor is not None and tasks:
                parts += network_features(predictor, image, tasks, events=events, cancel=cancel)
            geometry = image.geometry
            found = ImageFeatures(geometry.shape, geometry.spacing, image.channels, tuple(parts), sha256)
            self._found[key] = found
            while len(self._found) > 1 and sum(one.bytes for one in self._found.values()) > _KEPT_BYTES:
                self._found.popitem(last=False)
            return found
