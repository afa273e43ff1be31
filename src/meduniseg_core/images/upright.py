"""Photographs that are stored turned: EXIF's orientation, what it means, and which way round a mask was drawn.

A camera that is held sideways stores the sensor's pixels and a number from 1 to 8 that says how to turn them. Every
viewer does; so do the readers here: an image is upright, as it is seen. Its labels are written on the file's own
pixels (turned back), with the same number where the format has a place for it (PNG, TIFF), so that they fit the file
for those programs that turn both and for those that turn neither.

A mask that comes back says by its own number, or by the JSON beside it, which way round it is. A mask with neither was
drawn on the stored pixels or on the photograph as it is shown. Where a quarter turn lies between them, its size tells;
where nothing tells, it is refused rather than guessed (`meet`).
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
"""EXIF's and TIFF's number of the field Orientation."""

KEY = "exif_orientation"
"""``Image.meta``: how the file of an upright array is stored, where it is stored turned; also in a result's JSON."""

MASK_KEY = "mask_grid"
"""``Image.meta`` of a label map that was read: "upright" (the file said so) or "unknown"; absent: as its array."""

DrawnOn = Literal["stored", "shown"]
"""The pixels that a mask was drawn on: those of the file, or the photograph as viewers show it."""

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
    """A file's orientation field as a number from 1 to 8; None where it has none (0 means so, too).

    Raises BadInputError for anything else: which way up the picture is cannot be known.
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
    """How the file of ``image`` (whose array is upright) is stored: 1 to 8, 1 where it is as it is shown."""
    return int(image.meta.get(KEY, 1))


def turned_upright(image: Image, orientation: int | None, *, labels: bool = False) -> Image:
    """``image`` as its file has it, turned upright by the file's ``orientation`` (None: it has no such field).

    An image that was turned has the finding "orientation_applied"; a label map remembers whether its file said which
    way round it is (see :func:`meet`).
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
    """An upright ``image`` turned back onto the pixels of a file with ``orientation``."""
    if orientation == 1:
        return image
    change = _TO_UPRIGHT[orientation]
    array = change.inverse(image.array)
    spacing = image.geometry.spacing
    back = [int(axis) for axis in np.argsort(change.axes)]
    return _on(image, array, (spacing[back[0]], spacing[back[1]], spacing[back[2]]))


def plain(image: Image) -> Image:
    """``image`` as one whose file, from now on, is stored as it is shown."""
    return replace(image, meta={key: value for key, value in image.meta.items() if key not in (KEY, MASK_KEY)})


def meet(labels: Image, image: Image, drawn_on: DrawnOn | None = None) -> Image:
    """``labels`` (1, 1, H, W) as they lie on the upright array of ``image``, where that is stored turned.

    The rule: labels whose file says its orientation (its own EXIF or TIFF field, or our JSON beside it) are upright by
    it. Others are turned where only the stored pixels have their size, and left where only the upright ones have it. A
    label map of memory, or one for a photograph that is stored upright, is left as it is.

    ``drawn_on`` answers where nothing tells: "stored" or "shown". Raises BadInputError without that answer.
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
    """Formats with such a field have no place in the patient: the turned grid has the same origin and directions."""
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    geometry = replace(image.geometry, shape=shape, spacing=spacing)
    return replace(image, array=np.ascontiguousarray(array), geometry=geometry)
