"""A small picture of a case with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import overlay, png_bytes
from meduniseg_core.images import place_labels, read_image, read_labels
from meduniseg_core.images.palette import class_colour

MOST_BYTES = 512 << 20
"""Cases with more bytes get no picture, because drawing one reads all files."""


def thumbnail(images: Sequence[Path], labels: Path | None, side: int) -> bytes:
    """Draw the slice with the most labels or, without labels, the middle one.

    Args:
        images: the case's files.
        labels: its label map; None for the image alone.
        side: pixels of the longer side.

    Returns:
        A PNG.

    Raises:
        BadInputError: the files cannot be read, do not fit or are too large for a picture.
    """
    size = sum(file.stat().st_size for path in images for file in (path.iterdir() if path.is_dir() else (path,)))
    if size > MOST_BYTES:
        raise BadInputError(f"{images[0]} is too large for a small picture ({size >> 20} MiB); open it instead.")
    image = read_image(images[0] if len(images) == 1 else tuple(images))
    if labels is None:
        drawn = image.with_array(np.zeros((1, *image.geometry.shape), np.uint8))
    else:
        drawn = place_labels(read_labels(labels, like=image), image)
    colours = {label: class_colour(label) for label in range(1, int(drawn.array.max()) + 1)}
    return png_bytes(overlay(image, drawn, colours, longest_side=side))
