"""The image that the user looks at and the labels being worked on: one of each per viewer, shared by all panels.

They follow what is selected and what is visible in the viewer. Labels belong to their image (`_links`), so the two
never come from different images. Knows no Qt.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.utils.events import EmitterGroup

from napari_meduniseg._layers import is_derived
from napari_meduniseg._links import (
    are_siblings,
    bind,
    image_of,
    images_among,
    is_tied,
    labels_among,
    lies_on,
    tells_its_image,
)
from napari_meduniseg._measuring import is_measuring
from napari_meduniseg._views import bring_into_view, is_out_of_sight, reach_all_intensities

Thing = TypeVar("Thing")

_OPAQUE = 0.95  # a layer of this opacity hides what lies below it
_SEE_THROUGH = ("additive", "minimum", "multiplicative")

_by_viewer: WeakValueDictionary[int, Current] = WeakValueDictionary()


def current_of(viewer: ViewerModel) -> Current:
    """The `Current` that all panels of a viewer share; it lives as long as one of them keeps it."""
    bare = _bare(viewer)
    found = _by_viewer.get(id(bare))
    if found is None or found.viewer is not bare:
        found = _by_viewer[id(bare)] = Current(bare)
    return found


class Current:
    """The current image and labels of a viewer. ``events.changed`` is emitted when either becomes another one."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.events = EmitterGroup(source=self, changed=None)
        self._image: ImageLayer | None = None
        self._labels: Labels | None = None
        self._latest: WeakKeyDictionary[ImageLayer, weakref.ref[Labels]] = WeakKeyDictionary()
        self._put_aside: WeakSet[Layer] = WeakSet()  # hidden by us, to be shown again
        self._told: tuple[object, ...] = ()
        self._held = False
        self._opened: weakref.ref[Layer] | None = None  # the layer that was added last
        layers = viewer.layers
        layers.events.inserted.connect(self._inserted)
        layers.events.removed.connect(self._removed)
        layers.selection.events.active.connect(self._selected)
        for layer in layers:
            layer.events.visible.connect(self._visibility)
        self._settle()
        self._selected()

    @property
    def image(self) -> ImageLayer | None:
        """The image that the user looks at."""
        return self._image

    @property
    def labels(self) -> Labels | None:
        """The labels that are edited, saved and accepted."""
        return self._labels

    @property
    def put_aside(self) -> list[Layer]:
        """The layers that were hidden so that one image is seen alone."""
        return [layer for layer in self.viewer.layers if layer in self._put_aside]

    def image_of(self, labels: Layer) -> ImageLayer | None:
        """The image that labels belong to; None where that is unclear."""
        return image_of(labels, self.viewer.layers)

    def labels_of(self, image: ImageLayer) -> list[Labels]:
        """All labels of an image, the topmost last."""
        found = ((labels, self.image_of(labels)) for labels in labels_among(self.viewer.layers))
        return [labels for labels, belongs in found if belongs is not None and are_siblings(belongs, image)]

    def choose_image(self, image: ImageLayer) -> None:
        """Make an image the current one and show it alone.

        Other images and their labels are hidden until `show_all`.
        """
        image = _bare(image)
        with self._holding():
            self._show_alone(image)
            self.viewer.layers.selection.active = image
        self._set(image, self._labels_for(image))

    def choose_labels(self, labels: Labels) -> None:
        """Make labels the current ones; if something hides their image, it is shown alone."""
        labels = _bare(labels)
        image = self.image_of(labels)
        with self._holding():
            if image is not None and not self._is_seen(image):
                self._show_alone(image)
            self._show(labels)
            self.viewer.layers.selection.active = labels
        self._set(image or self._image, labels)

    def say_image(self, image: ImageLayer) -> bool:
        """Tie the current labels, whose image is unknown, to an image.

        Returns False where it is known or they do not lie on it.
        """
        labels = self._labels
        if labels is None or self.image_of(labels) is not None or not lies_on(labels, image):
            return False
        bind(labels, image)
        self.choose_labels(labels)
        return True

    def show_all(self) -> None:
        """Show all layers that were hidden."""
        with self._holding():
            for layer in self.put_aside:
                self._show(layer)
        image = self._image
        seen = [other for other in images_among(self.viewer.layers) if other.visible]
        if image is not None and seen and not self._is_seen(image):
            self._set(seen[-1], self._labels_for(seen[-1]))
        self._tell()

    @contextmanager
    def adding_to(self, image: ImageLayer) -> Iterator[list[Labels]]:
        """Use this while results of an image are added to the viewer; the list collects their labels.

        If the image is still the current one, its newest labels become the current ones. If the user has moved on to
        another image, the labels stay hidden until their image is chosen.
        """
        before, there = self.viewer.layers.selection.active, set(map(id, self.viewer.layers))
        added: list[Labels] = []
        with self._holding():
            yield added
        if not added:
            return
        if self._image is None or are_siblings(self._image, image):
            self.choose_labels(added[-1])
            return
        with self._holding():
            for layer in self.viewer.layers:  # boxes, too
                if id(layer) not in there and layer.visible:
                    self._hide(layer)
            self.viewer.layers.selection.active = before
        self._latest[image] = weakref.ref(added[-1])
        self._tell()

    # -- following the viewer -------------------------------------------------------------------------------------

    def _inserted(self, event: Any) -> None:
        layer: Layer = event.value
        layer.events.visible.connect(self._visibility)
        self._opened = weakref.ref(layer)
        image = self._image
        if isinstance(layer, ImageLayer):
            reach_all_intensities(layer)
        of_several = isinstance(layer, Labels) and not tells_its_image(layer) and self.image_of(layer) is None
        if of_several and image is not None and lies_on(layer, image):
            bind(layer, image)  # labels added to one of several images of one grid belong to the current one
        if self._image is None:
            self._settle()

    def _removed(self, event: Any) -> None:
        layer: Layer = event.value
        layer.events.visible.disconnect(self._visibility)
        self._put_aside.discard(layer)
        if layer is self._image or layer is self._labels:
            self._settle()

    def _selected(self, _event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        if self._held or active is None or is_derived(active):
            return
        if isinstance(active, Labels):
            image = self.image_of(active)
            if image is not None and image is not self._image and not self._is_seen(image):
                with self._holding():
                    self._show_alone(image)
                    self._show(active)
            self._set(image or self._image, active)
        elif isinstance(active, ImageLayer):
            opened = self._opened is not None and self._opened() is active
            if not self._is_seen(active) or (opened and self._is_apart(active)):
                with self._holding():
                    self._show_alone(active)
            elif opened:
                bring_into_view(self.viewer, active, self._image if self._image in self.viewer.layers else None)
            elif is_out_of_sight(self.viewer, active):
                bring_into_view(self.viewer, active, None)
            if opened:
                self._put_below_its_labels(active)
            self._opened = None
            self._set(active, self._labels if active is self._image else self._labels_for(active))

    def _visibility(self, event: Any) -> None:
        layer: Layer = event.source
        if self._held:
            return
        self._put_aside.discard(layer)  # the user has decided
        if isinstance(layer, ImageLayer) and not is_derived(layer):
            self._image_visibility(layer)
        elif isinstance(layer, Labels) and not is_derived(layer):
            self._labels_visibility(layer)
        self._tell()

    def _image_visibility(self, image: ImageLayer) -> None:
        now = self._image
        if image.visible and image is not now and (now is None or self._above(image, now)) and _covers(image):
            self._set(image, self._labels_for(image))
        elif not image.visible and image is now:
            seen = [other for other in images_among(self.viewer.layers) if other.visible]
            if seen and not any(are_siblings(other, image) for other in seen):
                self._set(seen[-1], self._labels_for(seen[-1]))

    def _labels_visibility(self, labels: Labels) -> None:
        now = self._labels
        if labels.visible:
            above = now is None or not now.visible or self._above(labels, now)
            if labels is not now and above and self.image_of(labels) is self._image:
                self._set(self._image, labels)
        elif labels is now and self._image is not None:
            seen = [other for other in self.labels_of(self._image) if other.visible]
            if seen:
                self._set(self._image, seen[-1])

    def _settle(self) -> None:
        """Find an image and labels where there are none, or the current ones are gone."""
        layers = self.viewer.layers
        image, labels = self._image, self._labels
        if image not in layers:
            images = images_among(layers)
            seen = [other for other in images if other.visible]
            image = next(iter(reversed(seen or images)), None)
            if image is not None and not image.visible and image in self._put_aside:
                with self._holding():
                    self._show_alone(image)
        if labels not in layers or (image is not self._image and labels is not None):
            labels = None if image is None else self._labels_for(image)
        if labels is None:
            orphans = [other for other in labels_among(layers) if other.visible and self.image_of(other) is None]
            labels = self._labels_for(image) if image is not None else None
            if image is None:  # else they would be worked on beside an image that they do not belong to
                labels = next(iter(reversed(orphans)), None)
            else:
                near = (other for other in reversed(orphans) if not is_tied(other) and lies_on(other, image))
                labels = labels or next(near, None)
        self._set(image, labels)

    def _set(self, image: ImageLayer | None, labels: Labels | None) -> None:
        if image is not None and labels is not None:
            self._latest[image] = weakref.ref(labels)
        self._image, self._labels = image, labels
        self._tell()

    def _tell(self) -> None:
        """Emit ``changed`` if the current image or labels are other ones."""
        labels = self._labels
        state = (self._image, labels, labels is not None and labels.visible, self.put_aside)
        if state != self._told:
            self._told = state
            self.events.changed()

    # -- what is seen ---------------------------------------------------------------------------------------------

    def _labels_for(self, image: ImageLayer) -> Labels | None:
        """The labels of an image to work on: visible ones first, then those worked on last, else the topmost."""
        all_of_it = self.labels_of(image)
        seen = [labels for labels in all_of_it if labels.visible]
        reference = self._latest.get(image)
        latest = None if reference is None else reference()
        candidates = seen or all_of_it
        if any(latest is labels for labels in candidates):
            return latest
        return candidates[-1] if candidates else None

    def _is_seen(self, image: ImageLayer) -> bool:
        """Whether an image is visible and no other image hides it."""
        if not image.visible:
            return False
        others = (other for other in images_among(self.viewer.layers) if other.visible and self._above(other, image))
        return not any(_covers(other) and not are_siblings(other, image) for other in others)

    def _is_apart(self, image: ImageLayer) -> bool:
        """Whether an image hides others that it does not lie on, whose edges would stick out around it."""
        others = (
            other for other in images_among(self.viewer.layers) if other.visible and not are_siblings(other, image)
        )
        return _covers(image) and any(not lies_on(other, image) for other in others)

    def _above(self, one: Layer, other: Layer) -> bool:
        layers = list(self.viewer.layers)
        return layers.index(one) > layers.index(other)

    def _show_alone(self, image: ImageLayer) -> None:
        for layer in self.viewer.layers:
            if self._goes_with(layer, image):
                if layer in self._put_aside:
                    self._show(layer)
            elif layer.visible and _is_of_an_image(layer):
                self._hide(layer)
        self._show(image)
        before = self._image if self._image in self.viewer.layers else None
        bring_into_view(self.viewer, image, before)

    def _put_below_its_labels(self, image: ImageLayer) -> None:
        """Move an image that was opened after its labels below them: it would hide them."""
        layers = self.viewer.layers
        lowest = min((layers.index(labels) for labels in self.labels_of(image)), default=len(layers))
        if _covers(image) and lowest < layers.index(image):
            layers.move(layers.index(image), lowest)

    def _goes_with(self, layer: Layer, image: ImageLayer) -> bool:
        if isinstance(layer, ImageLayer) and not is_derived(layer):
            return are_siblings(layer, image)
        belongs = self.image_of(layer)
        return lies_on(layer, image) if belongs is None else are_siblings(belongs, image)

    def _hide(self, layer: Layer) -> None:
        layer.visible = False
        self._put_aside.add(layer)

    def _show(self, layer: Layer) -> None:
        layer.visible = True
        self._put_aside.discard(layer)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Mark changes of visibility as made by the program, not by the user."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before


def _bare(thing: Thing) -> Thing:
    """The viewer or layer itself: panels get napari's proxies, which compare as unequal to it."""
    found: Thing = getattr(thing, "__wrapped__", thing)
    return found


def _is_of_an_image(layer: Layer) -> bool:
    """Whether a layer shows an image or something of one: it is hidden with its image."""
    return isinstance(layer, ImageLayer | Labels) or is_measuring(layer) or is_derived(layer)


def _covers(image: ImageLayer) -> bool:
    return image.opacity >= _OPAQUE and str(image.blending) not in _SEE_THROUGH
