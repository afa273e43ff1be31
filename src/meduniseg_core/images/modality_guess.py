"""What an image most probably is, and what else it can be: for programs that propose a modality and ask where they
cannot tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.images.image import Image
from meduniseg_core.images.modality_check import COLOUR_MODALITIES, is_photograph, likely_modalities

# Linear discriminants of four features (`_look`): the mean of each kind, and the inverse of their common covariance.
# Fitted on the training images of seven public data sets (436 photographs). With the two limits below, of their 50 test
# images 42 are told, one of them wrongly (a colonoscopy as a fundus).
_MEANS = {
    "dermoscopy": (0.005, 0.398, 0.294, 0.131),
    "fundus": (0.843, 0.579, 0.139, 0.074),
    "pathology": (0.0, 0.378, 0.377, 0.155),
    "endoscopy": (0.634, 0.495, 0.209, 0.173),
}
_PRECISION = np.array(
    [[43.0, 17.0, 25.0, 13.0], [17.0, 783.0, 461.0, 29.0], [25.0, 461.0, 1144.0, -35.0], [13.0, 29.0, -35.0, 556.0]]
)
_FARTHEST = 20.0  # squared distance: what lies farther from every kind is none of them
_CLEARER = 5.0  # the next kind must lie that much farther away
_OTHER = 10.0  # the kind that a photograph is said to be, to be doubted: none of 431 training photographs is that wrong
_LOOKED_AT = 128  # pixels along a side
_DARK = 0.12  # of white


@dataclass(frozen=True)
class ModalityGuess:
    """``best``: the modality to propose, None where the image does not tell. ``possible``: all that it can be."""

    best: str | None
    possible: tuple[str, ...]


def guess_modality(image: Image) -> ModalityGuess:
    """Guess what an image is of: by its DICOM header, by Hounsfield units, by its colours.

    Args:
        image: (C, D, H, W).

    Returns:
        The guess, with names of the catalogue. ``possible`` is empty where nothing at all is known (several channels
        that are no colours).
    """
    found = likely_modalities(image)
    if len(found) == 1:
        return ModalityGuess(found[0], found)
    if found and set(found) == COLOUR_MODALITIES:
        return ModalityGuess(photograph_kind(image), found)
    if found:
        return ModalityGuess(found[0], found)
    if image.channels != 1 and image.meta.get("colour") != "rgb":
        return ModalityGuess(None, ())
    grey = [name for name in MODALITIES if name not in COLOUR_MODALITIES]
    if not image.is_2d:
        grey = [name for name in grey if MODALITIES[name].dimension == 3]
    return ModalityGuess(None, tuple(grey))


def photograph_kind(image: Image) -> str | None:
    """Tell skin, retina, stained tissue and endoscopy apart by a photograph's colours and its dark border.

    Args:
        image: (3, 1, H, W), RGB.

    Returns:
        The modality's name; None where the photograph is like none of them, or like two.
    """
    distances = _distances(image)
    if not distances:
        return None
    nearest, second = sorted(distances, key=lambda name: distances[name])[:2]
    clear = distances[nearest] <= _FARTHEST and distances[second] >= distances[nearest] + _CLEARER
    return nearest if clear else None


def photograph_doubt(image: Image, modality: str | None, *, takes_colour: bool) -> str | None:
    """Say what is wrong with a photograph in colour that is taken for an image of a modality.

    Args:
        image: (C, D, H, W).
        modality: What it is taken for; None where that is not known.
        takes_colour: Whether it is to be used in colour.

    Returns:
        A sentence: such images are grey, or it looks like a photograph of another kind; None where nothing is wrong.
    """
    if not is_photograph(image):
        return None
    if not takes_colour:
        return f"{image.name} is a colour photograph, and {modality} images are grey."
    distances = _distances(image)
    if modality not in distances:
        return None
    nearest = min(distances, key=lambda name: distances[name])
    if distances[nearest] > _FARTHEST or distances[modality] < distances[nearest] + _OTHER:
        return None
    return f"{image.name} looks like {nearest}, and is taken for {modality}: check that it is the right file."


def _distances(image: Image) -> dict[str, float]:
    """How far (squared) a photograph is from each kind; empty where it shows too little."""
    look = _look(image)
    if look is None:
        return {}
    return {name: float((look - mean) @ _PRECISION @ (look - mean)) for name, mean in _MEANS.items()}


def _look(image: Image) -> np.ndarray | None:
    """The share of the border that is dark; of what is not dark the shares of red and blue, and the contrast."""
    height, width = image.geometry.shape[1:]
    steps = max(1, height // _LOOKED_AT), max(1, width // _LOOKED_AT)
    array = image.array[:3, 0, :: steps[0], :: steps[1]]
    white = 255.0 if array.dtype == np.uint8 else float(array.max())
    if min(array.shape[1:]) < 8 or white <= 0:
        return None
    colours = np.moveaxis(array, 0, -1) / white
    dark = colours.max(axis=-1) < _DARK
    lit = colours[~dark]
    if len(lit) < 50:
        return None
    rows, columns = (1 + length // 40 for length in dark.shape)
    border = np.concatenate(
        [part.ravel() for part in (dark[:rows], dark[-rows:], dark[:, :columns], dark[:, -columns:])]
    )
    means = lit.mean(axis=0)
    total = float(means.sum())
    return np.array([border.mean(), means[0] / total, means[2] / total, lit.std(axis=0).mean()])
