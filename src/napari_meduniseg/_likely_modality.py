"""Which modality to show for an image: the user's choice for it, else what the image itself suggests, else what was
chosen last for images of its kind. Knows no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from napari.layers import Layer

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images.modality_guess import ModalityGuess, guess_modality
from meduniseg_core.paths import user_folder
from meduniseg_core.structured_text import try_read_json, try_write_json
from napari_meduniseg._belonging import has_length
from napari_meduniseg._layer_input import snapshot_layers
from napari_meduniseg._links import lies_on

_UNKNOWN = ModalityGuess(None, ())


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
        self._latest: str | None = None  # of this session, for whatever image that does not tell
        self._guesses: WeakKeyDictionary[Layer, ModalityGuess] = WeakKeyDictionary()

    def note(self, image: Layer | None, choice: ByHand) -> None:
        """The user has chosen this for the image that is shown, or for the one to come."""
        if image is None:
            self._latest, self._waiting = choice.modality, choice
            return
        if choice.modality != self._guess(image).best:  # what an image tells by itself says nothing of the next one
            self._latest = choice.modality
        self._by_hand[image] = choice
        self._remember(image, choice.modality)

    def by_hand(self, image: Layer) -> ByHand | None:
        """What the user chose for the image, or for another one on its grid in mm: channels of one study."""
        if self._waiting is not None:
            self._by_hand[image], self._waiting = self._waiting, None
            self._remember(image, self._by_hand[image].modality)
        if image in self._by_hand:
            return self._by_hand[image]
        if not has_length(image):
            return None
        same_grid = (choice for other, choice in self._by_hand.items() if lies_on(other, image))
        return next(same_grid, None)

    def best_of(self, image: ImageLayer, offered: Sequence[str]) -> tuple[bool, str | None]:
        """The modality of ``offered`` to show, and whether the image was looked at.

        It is what the image tells; else what was chosen last for images that tell as little; else the only one that is
        possible; else None: the user is to say it. The voxels of a layer that may be lazy are not read for this:
        :meth:`told` is called once they were.
        """
        guess = self._guess(image)
        fitting = [name for name in guess.possible if name in offered]
        if not fitting:
            return False, None
        before = _remembered().get(_kind(guess))
        for name in (guess.best, before, self._latest):
            if name in fitting:
                return True, name
        return True, fitting[0] if len(fitting) == 1 else None

    def told(self, image: Layer, guess: ModalityGuess) -> bool:
        """Note what was found out about an image; returns whether it is new."""
        before = self._guesses.get(image, _UNKNOWN)
        self._guesses[image] = guess
        if image in self._by_hand:
            self._remember(image, self._by_hand[image].modality)  # chosen before the image was looked at
        return guess != before

    def _guess(self, image: Layer) -> ModalityGuess:
        if image not in self._guesses and isinstance(image, ImageLayer):
            self._guesses[image] = _at_once(image)
        return self._guesses.get(image, _UNKNOWN)

    def _remember(self, image: Layer, modality: str | None) -> None:
        """Keep a choice for the next image of this kind, where the image does not tell it by itself."""
        guess = self._guess(image)
        known = _remembered()
        if modality is None or not guess.possible or known.get(_kind(guess)) == modality:
            return
        try_write_json(_file(), {**known, _kind(guess): modality})


def _kind(guess: ModalityGuess) -> str:
    return "/".join(guess.possible)


def _file() -> Path:
    return user_folder() / "last_modalities.json"


def _remembered() -> dict[str, str]:
    """The modality that was chosen last for each kind of image, in this session or a former one."""
    found = try_read_json(_file())
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _at_once(image: ImageLayer) -> ModalityGuess:
    """What can be said at once about an image that our reader has read whole."""
    try:
        (snapshot,) = snapshot_layers([image])
    except MedUniSegError:
        return _UNKNOWN  # it cannot be segmented, which is said elsewhere
    return guess_modality(snapshot.outline) if snapshot.known else _UNKNOWN
