"""Features of images for strokes and clicks: of the model in use, kept for all panels of a viewer. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Labels

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.events import CancelToken, EventSink, Message
from meduniseg_core.images import Image
from meduniseg_core.images.modality_guess import guess_modality
from meduniseg_core.inference import Predictor
from meduniseg_core.interactive import FeatureCache, ImageFeatures, choose_network
from meduniseg_core.weights import Registry
from meduniseg_core.weights.offer import Offer, offer_in_use, offer_of
from napari_meduniseg._current import Current
from napari_meduniseg._layer_input import LayerSnapshot, read_layers, same_images
from napari_meduniseg._layers import METADATA_KEY
from napari_meduniseg._segmentation_job import Predictors, SegmentChoice


@dataclass(frozen=True)
class MadeBy:
    """The model that made the labels of an image, its task and the modality; None for what is not known."""

    model: str | None = None
    task: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Found:
    """Features, and a sentence that names their model and tasks."""

    features: ImageFeatures
    text: str


@dataclass
class FeatureSource:
    """Computes features in a worker's thread, once for each image."""

    _cache: FeatureCache = field(default_factory=FeatureCache)
    _predictors: Predictors = field(default_factory=Predictors)
    _last: tuple[tuple[LayerSnapshot, ...], MadeBy | None, Found] | None = None

    def of_layers(
        self, snapshots: tuple[LayerSnapshot, ...], made_by: MadeBy | None, events: EventSink, cancel: CancelToken
    ) -> Found:
        """Find the features of the image that layers show, as `get` does.

        If the layers are those of the last call, neither the image nor the models in use are looked up again: a stroke
        must not wait for a checksum of the whole image. `forget` ends that.
        """
        last = self._last
        if last is not None and last[1] == made_by and same_images(last[0], snapshots):
            return last[2]
        found = self.get(read_layers(snapshots).image, made_by, events, cancel)
        self._last = snapshots, made_by, found
        return found

    def forget(self) -> None:
        """Look up the image and the models in use again next time."""
        self._last = None

    def get(self, image: Image, made_by: MadeBy | None, events: EventSink, cancel: CancelToken) -> Found:
        """Find an image's features.

        Args:
            image: (C, D, H, W).
            made_by: the model that made its labels, which chooses the network; None for the image's own features
                alone.
            events: receives progress.
            cancel: stops after the current batch of windows.

        Returns:
            The features; only the image's own if no task can take the image.
        """
        if made_by is None:
            return Found(self._cache.get(image, None, events=events, cancel=cancel), "Without a network's features.")
        modality = made_by.modality or guess_modality(image).best
        offer = _offer(made_by.model, events)
        choice = choose_network(offer, image, modality, made_by.task)
        if choice is None:
            found = self._cache.get(image, None, events=events, cancel=cancel)
            return Found(found, "No task of the model in use takes such an image: its own features alone are used.")
        predictor = self.predictor(choice.model)
        found = self._cache.get(image, predictor, choice.tasks, events=events, cancel=cancel)
        titles = [offer.plans[task].shown_title for task in choice.tasks]
        return Found(found, f"Features of {predictor.model.info.name}: {', '.join(titles)}.")

    def of_tasks(
        self, image: Image, model_sha256: str | None, tasks: tuple[str, ...], events: EventSink, cancel: CancelToken
    ) -> ImageFeatures | None:
        """Find the features of certain tasks of a certain model; None if it is not among the models in use."""
        if not tasks:
            return self._cache.get(image, None, events=events, cancel=cancel)
        for name in dict.fromkeys(offer_in_use(events).models.values()):
            predictor = self.predictor(name)
            if predictor.model.sha256 == model_sha256:
                return self._cache.get(image, predictor, tasks, events=events, cancel=cancel)
        return None

    def predictor(self, model: str) -> Predictor:
        """The model, loaded once."""
        return self._predictors.get(SegmentChoice((), (), model=model, packs=False))


_by_viewer: WeakKeyDictionary[Current, FeatureSource] = WeakKeyDictionary()


def features_of(current: Current) -> FeatureSource:
    """The source that all panels of a viewer share."""
    return _by_viewer.setdefault(current, FeatureSource())


def made_by(labels: Labels | None) -> MadeBy:
    """Read from a labels layer which model made it."""
    record: Any = None if labels is None else labels.metadata.get(METADATA_KEY)
    known = record.get("provenance") if isinstance(record, dict) else None
    if not isinstance(known, dict):
        return MadeBy()
    return MadeBy(known.get("model"), known.get("task"), known.get("modality"))


def _offer(model: str | None, events: EventSink) -> Offer:
    """The tasks of the model that made the labels if it is installed, else of the models in use."""
    if model is not None and any(entry.name == model and entry.info is not None for entry in Registry().list()):
        try:
            return offer_of(model)
        except MedUniSegError as error:
            events(Message("warning", str(error)))
    return offer_in_use(events)
