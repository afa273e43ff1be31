"""Photographs that are stored rotated: what EXIF's orientation means, and which way round a mask was drawn.

A camera held sideways stores the sensor's pixels and a number from 1 to 8 that says how to turn them. Every viewer
applies it, and so do the readers here: an image is upright, as people see it. Its labels are written on the file's own
pixels (turned back), with the same number where the format has a field for it (PNG, TIFF). So they fit the file both in
programs that turn both files and in programs that turn neither.

A mask that is read back says which way round it is by its own number, or by the JSON beside it. A mask with neither was
drawn either on the stored pixels or on the photograph as it is shown. For a quarter turn, its size tells which; where
nothing tells, the mask is refused rather than guessed at (`meet`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.image import Image
from meduniseg_core.images.orientation import Reorientation

TAG = 0x0112
"""The number of the field Orientation in EXIF and TIFF."""

KEY = "exif_orientation"
"""Key in ``Image.meta``, and in a result's JSON: the orientation that the file stores, where that is not upright."""

MASK_KEY = "mask_grid"
"""Key in a label map's ``Image.meta``: "upright" (its file gave an orientation) or "unknown"; absent: as its array."""

DrawnOn = Literal["stored", "shown"]
"""The pixels that a mask was drawn on: as the file stores them, or as viewers show the photograph."""

_SWAPPED = (0, 2, 1)
_TO_UPRIGHT = {
    1: Reorientation(),
    2: Reorientation(flips=(False, False, True)),
    3: Reorientation(flips=(False, True, True)),
    4: Reorientation(flips=(False, True, False)),
    5: Reorientation(_SWAPPED),
    6: Reorientation(_SWAPPED, (False, False, True)),
    7: Reorientation(_SWAPPED, (False, True, True)),
    8: Reorientation(_SWAPPED, (False, True, False)),
}


def orientation_in(value: Any, name: str) -> int | None:
    """Check a file's orientation field.

    Args:
        value: What the file holds.
        name: The file's name, for the message.

    Returns:
        A number from 1 to 8; None where the file gives none (0 means the same).

    Raises:
        BadInputError: The value is something else, so which way up the picture is cannot be known.
    """
    if value is None or (isinstance(value, int) and value == 0):
        return None
    if not isinstance(value, int) or value not in _TO_UPRIGHT:
        raise BadInputError(
            f"{name} says in its EXIF data that it is turned in a way that does not exist ({str(value)[:20]}); save it "
            "upright, without EXIF orientation."
        )
    return value


def stored_orientation(image: Image) -> int:
    """Say how the file of an upright image is stored.

    Args:
        image: An image as it was read.

    Returns:
        EXIF's number from 1 to 8; 1 where the file is stored as it is shown.
    """
    return int(image.meta.get(KEY, 1))


def turned_upright(image: Image, orientation: int | None, *, labels: bool = False) -> Image:
    """Turn an image upright that lies as its file stores it.

    Args:
        image: An image as its file stores it.
        orientation: The file's orientation, 1 to 8; None where it gives none.
        labels: Whether it is a label map, which remembers whether its file gave an orientation (see `meet`).

    Returns:
        The upright image. An image (not a label map) that was turned has the finding "orientation_applied".
    """
    meta: dict[str, Any] = {MASK_KEY: "unknown" if orientation is None else "upright"} if labels else {}
    if orientation in (None, 1):
        return replace(image, meta={**image.meta, **meta}) if meta else image
    turned = _turn(image, _TO_UPRIGHT[orientation])
    upright = replace(turned, meta={**turned.meta, **meta, KEY: orientation})
    if labels:
        return upright
    return upright.with_findings(
        Finding(
            "orientation_applied",
            f"{image.name} is stored turned (EXIF orientation {orientation}): it is read upright, as viewers show it, "
            "and its labels are written on the file's own pixels.",
            "info",
        )
    )


def as_stored(image: Image, orientation: int) -> Image:
    """Turn an upright image back onto the pixels of a file.

    Args:
        image: An upright image.
        orientation: The file's orientation, 1 to 8.

    Returns:
        The image as the file stores it.
    """
    if orientation == 1:
        return image
    change = _TO_UPRIGHT[orientation]
    array = change.inverse(image.array)
    spacing = image.geometry.spacing
    back = [int(axis) for axis in np.argsort(change.axes)]
    return _on(image, array, (spacing[back[0]], spacing[back[1]], spacing[back[2]]))


def plain(image: Image) -> Image:
    """Forget how an image's file was stored: from now on it is stored as it is shown.

    Args:
        image: An upright image.

    Returns:
        The image without any record of its stored orientation.
    """
    return replace(image, meta={key: value for key, value in image.meta.items() if key not in (KEY, MASK_KEY)})


def meet(labels: Image, image: Image, drawn_on: DrawnOn | None = None) -> Image:
    """Bring a label map onto the upright array of an image whose file is stored rotated.

    Labels whose file gives an orientation (its own EXIF or TIFF field, or our JSON beside it) are already upright.
    Others are turned if only the stored pixels have their size, and left if only the upright pixels have it. A label
    map that was made in memory, or that belongs to a photograph stored upright, is left as it is.

    Args:
        labels: The label map, ``(1, 1, H, W)``.
        image: The image it belongs to.
        drawn_on: What the mask was drawn on, "stored" or "shown", where nothing else tells.

    Returns:
        The label map as it lies on the image.

    Raises:
        BadInputError: Nothing tells which way round the mask is.
    """
    orientation = stored_orientation(image)
    if orientation == 1 or labels.meta.get(MASK_KEY) != "unknown":
        return labels
    turned = turned_upright(labels, orientation, labels=True)
    fits_shown = labels.geometry.shape == image.geometry.shape
    fits_stored = turned.geometry.shape == image.geometry.shape
    if fits_shown and fits_stored and drawn_on is None and not np.array_equal(labels.array, turned.array):
        raise BadInputError(
            f"{image.name} is stored turned (EXIF orientation {orientation}) and {labels.name} does not say whether it "
            "was drawn on the stored pixels or on the photograph as it is shown; say which (drawn-on: stored or "
            "shown), or save the photograph upright and draw on that."
        )
    fitting = turned if fits_stored and (not fits_shown or drawn_on == "stored") else labels
    return replace(fitting, meta={**fitting.meta, MASK_KEY: "upright"})


def _turn(image: Image, change: Reorientation) -> Image:
    spacing = image.geometry.spacing
    a, b, c = change.axes
    return _on(image, change.forward(image.array), (spacing[a], spacing[b], spacing[c]))


def _on(image: Image, array: np.ndarray, spacing: tuple[float, float, float]) -> Image:
    """Formats with an orientation field store no position in the patient, so origin and directions stay the same."""
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    geometry = replace(image.geometry, shape=shape, spacing=spacing)
    return replace(image, array=np.ascontiguousarray(array), geometry=geometry)
