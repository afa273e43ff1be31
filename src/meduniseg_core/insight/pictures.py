"""Pictures of what is inside a model: scatter plots of priors, and maps of modal priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from meduniseg_core.evaluation.overlay import png_bytes
from meduniseg_core.images.palette import class_colour

_SIDE, _MARGIN, _LEGEND = 560, 16, 220
_CELL, _GAP, _TEXT = 96, 8, 16


def scatter_picture(places: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """Draw points in the colours of their names, with a legend.

    Args:
        places: (n, 2).
        names: of each point.
        title: written above.

    Returns:
        A PNG file's content.
    """
    picture = PillowImage.new("RGB", (_SIDE + _LEGEND, _SIDE + 2 * _TEXT), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, 4), title, fill="black")
    kinds = list(dict.fromkeys(names))
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = (places - low) / np.where(high > low, high - low, 1.0) * (_SIDE - 2 * _MARGIN) + _MARGIN
    for (x, y), name in zip(scaled.tolist(), names, strict=True):
        colour = class_colour(kinds.index(name) + 1)
        top = 2 * _TEXT + _SIDE - y - _MARGIN
        draw.ellipse((x - 2, top - 2, x + 2, top + 2), fill=colour)
    for row, name in enumerate(kinds):
        top = 2 * _TEXT + row * 18
        draw.rectangle((_SIDE + 8, top, _SIDE + 18, top + 10), fill=class_colour(row + 1))
        draw.text((_SIDE + 24, top), name, fill="black")
    return png_bytes(np.asarray(picture))


def maps_picture(maps: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Draw the modal priors: a row for each modality, its map of images and the slices of that of volumes.

    All have one grey scale, symmetric about 0 (grey), so that rows can be compared; the strongest hundredth of the
    entries is beyond it.

    Args:
        maps: by modality, of images (H, W) and of volumes (D, h, w).

    Returns:
        A PNG file's content.
    """
    slices = max(deep.shape[0] for _, deep in maps.values())
    values = np.concatenate([np.abs(part).ravel() for parts in maps.values() for part in parts])
    most = float(np.percentile(values, 99)) or 1.0  # single strong entries would leave all others grey
    wide = _LEGEND // 2 + (1 + slices) * (_CELL + _GAP)
    picture = PillowImage.new("RGB", (wide, len(maps) * (_CELL + _GAP) + _TEXT + _GAP), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_LEGEND // 2, 2), f"2D, then slices of 3D; black -{most:.2f}, white +{most:.2f}", fill="black")
    for row, (name, (flat, deep)) in enumerate(maps.items()):
        top = _TEXT + _GAP + row * (_CELL + _GAP)
        draw.text((4, top + _CELL // 2 - 6), name, fill="black")
        for column, part in enumerate((flat, *deep)):
            grey = np.clip(127.5 * (1 + part / most), 0, 255).astype(np.uint8)
            cell = PillowImage.fromarray(grey).resize((_CELL, _CELL), PillowImage.Resampling.NEAREST)
            picture.paste(cell, (_LEGEND // 2 + column * (_CELL + _GAP), top))
    return png_bytes(np.asarray(picture))
