"""What the values of an image look like: Hounsfield units or not, colour or not; and the usual CT windows (HU)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.images.image import Image

COLOUR_MODALITIES = frozenset({"dermoscopy", "fundus", "pathology", "endoscopy"})
HU_OFFSET = 1024.0
"""How much too high a CT is stored without its rescale intercept (some scanners use 1000, which is near enough)."""

_SAMPLE = 100_000  # voxels that are looked at
_AIR_BELOW = -300.0  # HU: an image with such values shows air or lung
_LOWEST, _HIGHEST = -4000.0, 5000.0  # paddings and metal beyond them are left out or rare
_TISSUE = (-150.0, 300.0)
_COLOURED = 0.1  # a pixel's channels lie further apart than this share of the range
_PHOTOGRAPH = 0.25  # share of coloured pixels: annotations and Doppler in a grey image have fewer
_GREY = 0.002


@dataclass(frozen=True)
class Window:
    """A display window for CT: the HU shown as black and as white."""

    name: str
    low: float
    high: float


CT_WINDOWS: tuple[Window, ...] = (
    Window("Soft tissue", -160.0, 240.0),
    Window("Lung", -1350.0, 150.0),
    Window("Bone", -450.0, 1050.0),
    Window("Brain", 0.0, 80.0),
)


def likely_modalities(image: Image) -> tuple[str, ...]:
    """What an image can be of, where it tells: by its DICOM header, else by its voxels.

    Args:
        image: (C, D, H, W).

    Returns:
        Names of the catalogue, in its order; empty where the image does not tell (pictures in grey, say).
    """
    found = list(modalities_told(image))
    if not found and is_photograph(image):
        found = [name for name in MODALITIES if name in COLOUR_MODALITIES]
    if not found and image.channels == 1:
        found = _by_values(image)
    return tuple(found)


def modalities_told(image: Image) -> tuple[str, ...]:
    """What an image is of by its DICOM header.

    Args:
        image: Any image.

    Returns:
        Names of the catalogue, in its order; empty where there is no header, or it names none of them.
    """
    told = str(image.meta.get("modality", ""))
    return tuple(name for name, modality in MODALITIES.items() if told in modality.dicom)


def _by_values(image: Image) -> list[str]:
    channel = image.array[0]
    if is_surely_ct(channel):
        return [name for name, modality in MODALITIES.items() if modality.hounsfield]
    if image.is_2d or is_picture(channel) or is_stored_higher(channel) or sample(channel).min() < 0:
        return []  # any modality in grey, a CT that is clipped or not in Hounsfield units, or values that were computed
    return [name for name, modality in MODALITIES.items() if modality.dimension == 3 and not modality.hounsfield]


def looks_like_ct(image: Image) -> bool:
    """Say whether an image looks like CT: one channel with air near -1000 HU and tissue above 0 HU.

    Args:
        image: Any image.

    Returns:
        True where it has one channel that `has_air_and_tissue` accepts.
    """
    return image.channels == 1 and has_air_and_tissue(image.array[0])


def has_air_and_tissue(channel: np.ndarray) -> bool:
    """Say whether a channel's range is that of Hounsfield units with air.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        True where the range fits; only the range is looked at.
    """
    if channel.dtype == np.uint8:
        return False
    low, high = np.percentile(sample(channel), (0.5, 99.5))
    return bool(_LOWEST <= low <= _AIR_BELOW and 0 <= high <= _HIGHEST)


def is_surely_ct(channel: np.ndarray) -> bool:
    """Say whether a channel can hardly be anything but CT: it has air near -1000 HU and soft tissue near 0 HU.

    Phase and difference images of MR can reach such values, too, but do not cluster at both.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        True where both clusters are there.
    """
    if not has_air_and_tissue(channel):
        return False
    values = _without_padding(sample(channel))
    low = float(np.percentile(values, 0.5))
    return -1500 <= low <= -800 and _share(values, *_TISSUE) >= 0.03


def not_hounsfield(channel: np.ndarray, lowest_used: float | None = None) -> str | None:
    """Say why a channel is not in Hounsfield units.

    A region of the body without air is not a fault.

    Args:
        channel: Voxels ``(D, H, W)``.
        lowest_used: The HU below which the task clips values; an image clipped above it has lost information.

    Returns:
        The reason, as the end of a sentence; None where nothing is wrong.
    """
    values = _without_padding(sample(channel))
    low, middle, high = (float(value) for value in np.percentile(values, (0.5, 50, 99.5)))
    fault = f"its values run from {low:.4g} to {high:.4g}, and Hounsfield units have air near -1000"
    if channel.dtype == np.uint8 or not _LOWEST <= low <= _HIGHEST or high > _HIGHEST:
        return fault
    if float(np.percentile(values, 5)) < -1200:
        return f"{fault} (they seem to be {HU_OFFSET:.0f} too low)"
    if low <= _AIR_BELOW:
        return None if high >= 0 or _share(values, *_TISSUE) >= 0.002 else fault
    if is_stored_higher(channel):
        return f"{fault} (they seem to be stored {HU_OFFSET:.0f} too high: subtract that)"
    within_body = low <= -20 and high >= 50 and _TISSUE[0] <= middle <= _TISSUE[1]
    if not within_body:
        return fault
    clipped = _share(values, low, low) >= 0.02
    if clipped and lowest_used is not None and low > lowest_used + 20:
        return f"its values were clipped at {low:.4g}, and the task looks at Hounsfield units from {lowest_used:.4g} on"
    return None


def is_stored_higher(channel: np.ndarray) -> bool:
    """Say whether a channel is a CT stored 1024 too high: air near 0 and soft tissue near 1024.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        True where its values fit that.
    """
    if channel.dtype == np.uint8:
        return False
    values = sample(channel)
    low, high = np.percentile(values, (0.5, 99.5))
    tissue = _share(values, HU_OFFSET + _TISSUE[0], HU_OFFSET + _TISSUE[1])
    without_air = low > HU_OFFSET - 300 and tissue >= 0.5
    with_air = -50 <= low <= 300 and tissue >= 0.05 and _share(values, -50, 400) >= 0.05
    return bool((with_air or without_air) and high <= _HIGHEST + HU_OFFSET)


def is_picture(channel: np.ndarray) -> bool:
    """Say whether a channel has the values of a picture: 0 to 255, or scaled to 0..1 or -1..1.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        True where its range fits that.
    """
    if channel.dtype == np.uint8:
        return True
    low, high = np.percentile(sample(channel), (0.5, 99.5))
    return bool(low >= -1.01 and high <= 255.5)


def is_grey(image: Image) -> bool:
    """Say whether a colour image shows no colour: its channels are equal, but for the rounding of lossy compression.

    Args:
        image: ``(3, D, H, W)``.

    Returns:
        True where at most 0.2 % of its pixels have colour.
    """
    return coloured_share(image) <= _GREY


def is_photograph(image: Image) -> bool:
    """Say whether an image is in colour, and much of it: more than annotations or a Doppler map add to a grey image.

    Args:
        image: ``(C, D, H, W)``.

    Returns:
        True where it is RGB and more than a quarter of its pixels have colour.
    """
    return image.channels == 3 and image.meta.get("colour") == "rgb" and coloured_share(image) > _PHOTOGRAPH


def coloured_share(image: Image) -> float:
    """Measure how much of a colour image has colour.

    Args:
        image: ``(3, D, H, W)``.

    Returns:
        The share of pixels, 0 to 1, whose channels differ by more than a tenth of the image's range.
    """
    spread = np.stack([sample(channel) for channel in image.array[:3]]).astype(np.float64)
    reach = spread.max() - min(0.0, spread.min())
    return float(np.mean(np.ptp(spread, axis=0) > _COLOURED * reach)) if reach > 0 else 0.0


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values <= high)))


def _without_padding(values: np.ndarray) -> np.ndarray:
    """Drop the padding of voxels outside the field of view: a frequent lowest value below all air."""
    lowest = values.min()
    filled = values == lowest
    return values[~filled] if lowest < -1100 and 0.005 < filled.mean() < 1 else values


def sample(channel: np.ndarray) -> np.ndarray:
    """Take evenly spread voxels.

    Args:
        channel: (D, H, W).

    Returns:
        Their values, (n,).
    """
    flat = channel.reshape(-1)
    # an odd step: an even one meets the same columns of every row
    return np.asarray(flat[:: max(1, flat.size // _SAMPLE) | 1])
