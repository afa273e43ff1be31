"""Which modality to show for an image: the user's choice for it, else what the image itself suggests. Knows no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from napari.layers import Layer

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images.modality_check import likely_modalities
from napari_meduniseg._belonging import has_length
from napari_meduniseg._layer_input import snapshot_layers
from napari_meduniseg._links import lies_on


@dataclass(frozen=True)
class ByHand:
    """What the user chose himself."""

    modality: str | None
    tasks: tuple[str, ...] = ()


class LikelyModality:
    """What is known of each image of a viewer."""

    def __init__(self) -> None:
        self._by_hand: WeakKeyDictionary[Layer, ByHand] = WeakKeyDictionary()
        self._waiting: ByHand | None = None  # chosen while there was no image
        self._latest: ByHand | None = None
        self._likely: WeakKeyDictionary[Layer, tuple[str, ...]] = WeakKeyDictionary()

    def note(self, image: Layer | None, choice: ByHand) -> None:
        """The user has chosen this for the image that is shown, or for the one to come."""
        self._latest = choice
        if image is None:
            self._waiting = choice
        else:
            self._by_hand[image] = choice

    def by_hand(self, image: Layer) -> ByHand | None:
        """What the user chose for the image, or for another one on its grid in mm: channels of one study."""
        if self._waiting is not None:
            self._by_hand[image], self._waiting = self._waiting, None
        if image in self._by_hand:
            return self._by_hand[image]
        if not has_length(image):
            return None
        same_grid = (choice for other, choice in self._by_hand.items() if lies_on(other, image))
        return next(same_grid, None)

    def best_of(self, image: ImageLayer, offered: Sequence[str]) -> str | None:
        """The modality of ``offered`` that the image seems to be of; None where it does not tell, or not yet.

        Of several the one that was chosen by hand last. The voxels of a layer that may be lazy are not read for it:
        :meth:`told` is called once they were.
        """
        if image not in self._likely:
            self._likely[image] = _at_once(image)
        fitting = [name for name in self._likely[image] if name in offered]
        before = None if self._latest is None else self._latest.modality
        return before if before in fitting else next(iter(fitting), None)

    def told(self, image: Layer, likely: tuple[str, ...]) -> bool:
        """Note what was found out about an image; returns whether it is new."""
        before = self._likely.get(image, ())
        self._likely[image] = likely
        return likely != before


def _at_once(image: ImageLayer) -> tuple[str, ...]:
    """What can be said at once about an image that our reader has read whole."""
    try:
        (snapshot,) = snapshot_layers([image])
    except MedUniSegError:
        return ()  # it cannot be segmented, which is said elsewhere
    return likely_modalities(snapshot.outline) if snapshot.known else ()
