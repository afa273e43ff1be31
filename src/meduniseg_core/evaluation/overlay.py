"""Pictures of a label map over its image, for the demo, the reports and the README."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from scipy import ndimage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, Reorientation, canonical_orientation
from meduniseg_core.images.palette import Colour, class_colour

Picture = npt.NDArray[np.uint8]


def colour_of(label: int, colours: Sequence[Colour] | Mapping[int, Colour] | None = None) -> Colour:
    """Choose the colour of a label.

    Args:
        label: The label's id.
        colours: Colours by id (a mapping), or those of labels 1, 2, ... (a sequence, which repeats); None for
            `class_colour`.

    Returns:
        RGB, 0 to 255.
    """
    if isinstance(colours, Mapping):
        return colours[label] if label in colours else class_colour(label)
    return colours[(label - 1) % len(colours)] if colours else class_colour(label)


def overlay(
    image: Image,
    labels: Image,
    colours: Sequence[Colour] | Mapping[int, Colour] | None = None,
    slice_index: int | None = None,
    *,
    opacity: float = 0.35,
    window: tuple[float, float] | None = None,
    longest_side: int | None = None,
    like: Image | None = None,
) -> Picture:
    """Draw labels over one slice of an image, with square pixels.

    Volumes are shown axially, with the front up and the patient's left on the right. Photographs are shown in colour;
    of other images, the first channel is shown in grey.

    Args:
        image: The image to draw on.
        labels: The label map, on the image's grid.
        colours: See `colour_of`.
        slice_index: The slice, counted from the feet; None takes the one with most foreground, in ``like`` if given,
            else in ``labels``.
        opacity: How opaque the labels are, 0 to 1; outlines are opaque.
        window: The values shown as black and as white; None takes the slice's 0.5 and 99.5 percentiles.
        longest_side: The pixels to scale the longer side to; None keeps the finer axis as it is.
        like: The label map that chooses the slice.

    Returns:
        uint8 RGB (height, width, 3).

    Raises:
        BadInputError: the grids or the index do not fit.
    """
    if image.geometry.shape != labels.geometry.shape:
        raise BadInputError(
            f"{labels.name} has the grid {labels.geometry.shape} and {image.name} {image.geometry.shape}; "
            "use labels on the grid of the image."
        )
    # a 2D image is shown as it is stored: turned canonically, a coronal one would lose its plane
    upright, turn = canonical_orientation(image) if not image.is_2d else (image, Reorientation())
    ids = turn.forward(labels.array)[0]
    if slice_index is None:
        slice_index = fullest_slice(turn.forward((like or labels).array)[0])
    if not 0 <= slice_index < len(ids):
        raise BadInputError(f"{image.name} has no slice {slice_index}; take one from 0 to {len(ids) - 1}.")
    size = _square_pixels(upright, longest_side)
    picture = _resized(_grey_or_colour(upright, slice_index, window), size, PillowImage.Resampling.BILINEAR)
    drawn = _resized(ids[slice_index].astype(np.int32), size, PillowImage.Resampling.NEAREST)
    return _painted(picture, drawn, colours, opacity)


def fullest_slice(labels: npt.NDArray[np.integer]) -> int:
    """Find the slice with most foreground.

    Args:
        labels: ``(D, H, W)``.

    Returns:
        Its index; that of the middle slice where there is no foreground.
    """
    counts = np.count_nonzero(labels, axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(labels) // 2


def png_bytes(picture: Picture) -> bytes:
    """Encode a picture as PNG.

    Args:
        picture: uint8 RGB (height, width, 3).

    Returns:
        The content of a PNG file.
    """
    stream = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(picture)).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def side_by_side(pictures: Sequence[Picture], gap: int = 4) -> Picture:
    """Put pictures in a row.

    Args:
        pictures: of one height.
        gap: white pixels between two.

    Returns:
        One picture.
    """
    spacer = np.full((pictures[0].shape[0], gap, 3), 255, dtype=np.uint8)
    row = [part for picture in pictures for part in (picture, spacer)][:-1]
    return np.concatenate(row, axis=1)


def _square_pixels(image: Image, longest_side: int | None) -> tuple[int, int]:
    """Height and width of the slice once its pixels are square."""
    _, height, width = image.geometry.shape
    _, step_h, step_w = image.geometry.spacing
    extent = np.array([height * step_h, width * step_w])
    pixel = min(step_h, step_w) if longest_side is None else extent.max() / longest_side
    sides = np.maximum(1, np.rint(extent / pixel).astype(int))
    return int(sides[0]), int(sides[1])


def _grey_or_colour(image: Image, index: int, window: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    if image.channels == 3 and image.array.dtype == np.uint8 and not image.physical:
        colours: npt.NDArray[np.uint8] = np.moveaxis(image.array[:, index], 0, -1)
        return colours
    plane = image.array[0, index].astype(np.float32)
    low, high = window if window is not None else np.percentile(plane, (0.5, 99.5))
    if high <= low:  # a constant slice, or one with next to no content
        low, high = float(plane.min()), max(float(plane.max()), float(plane.min()) + 1.0)
    grey: npt.NDArray[np.uint8] = np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return grey


def _resized(array: npt.NDArray[np.generic], size: tuple[int, int], method: PillowImage.Resampling) -> np.ndarray:
    if array.shape[:2] == size:
        return np.asarray(array)
    picture = PillowImage.fromarray(np.ascontiguousarray(array))
    return np.asarray(picture.resize((size[1], size[0]), method))


def _painted(
    picture: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Colour] | Mapping[int, Colour] | None,
    opacity: float,
) -> Picture:
    base = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    result = base.astype(np.float32)
    for label in np.unique(labels):
        if label == 0:
            continue
        mask = labels == label
        colour = np.asarray(colour_of(int(label), colours), dtype=np.float32)
        result[mask] = (1 - opacity) * result[mask] + opacity * colour
        result[mask & ~ndimage.binary_erosion(mask)] = colour
    return np.rint(result).astype(np.uint8)
