"""What an image looks like: whether its values fit a modality, and the usual CT windows (HU)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meduniseg_core.images.image import Image

COLOUR_MODALITIES = frozenset({"dermoscopy", "fundus", "pathology", "endoscopy"})
_SAMPLE = 100_000  # voxels that are looked at


@dataclass(frozen=True)
class Window:
    """A display window of CT: HU that are shown black and white."""

    name: str
    low: float
    high: float


CT_WINDOWS: tuple[Window, ...] = (
    Window("Soft tissue", -160.0, 240.0),
    Window("Lung", -1350.0, 150.0),
    Window("Bone", -450.0, 1050.0),
    Window("Brain", 0.0, 80.0),
)


def looks_like_ct(image: Image) -> bool:
    """Whether the values are Hounsfield units: one channel, in mm, with air near -1000 HU and tissue above 0."""
    if image.channels != 1 or not image.physical or image.array.dtype == np.uint8:
        return False
    low, high = np.percentile(_sample(image), (0.5, 99.5))
    return bool(-4000 <= low <= -300 and 0 <= high <= 5000)


def is_grey(image: Image) -> bool:
    """Whether a colour image has no colour: its channels are equal."""
    sample = _sample(image)
    return bool(np.array_equal(sample[0], sample[1]) and np.array_equal(sample[0], sample[-1]))


def mismatch(image: Image, modality: str) -> str | None:
    """Why ``image`` does not look like ``modality``, as one sentence, or None where nothing speaks against it."""
    if modality in COLOUR_MODALITIES:
        if image.channels == 1:
            return f"{image.name} is grey, and {modality} images are in colour."
        if image.channels == 3 and is_grey(image):
            return f"{image.name} has three equal channels, and {modality} images are in colour."
        return None
    if image.channels == 3 and image.meta.get("colour") == "rgb" and not is_grey(image):
        return f"{image.name} is a colour photograph, and {modality} images are grey."
    if modality == "ct" and image.physical and not image.is_2d and not looks_like_ct(image):
        low, high = (float(value) for value in np.percentile(_sample(image), (0.5, 99.5)))
        return (
            f"{image.name} does not look like CT: its values run from {low:.4g} to {high:.4g}, "
            "and Hounsfield units have air near -1000."
        )
    if modality in ("mri", "pet", "ultrasound") and looks_like_ct(image):
        return f"{image.name} looks like CT: its values are Hounsfield units."
    return None


def _sample(image: Image) -> np.ndarray:
    """Evenly spread voxels, (C, n)."""
    flat = image.array.reshape(image.channels, -1)
    return flat[:, :: max(1, flat.shape[1] // _SAMPLE)]
