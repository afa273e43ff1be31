"""Pictures of single planes of a volume, for views beside the main one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.segmentation import find_boundaries

from meduniseg_core.errors import UsageError

Picture = npt.NDArray[np.uint8]


def plane_of(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Take one plane of a volume.

    Args:
        volume: (D, H, W).
        axis: the axis across the plane, 0 to 2.
        index: the plane's index; beyond the volume, its first or last one.

    Returns:
        The plane; its rows and columns run along the other axes, in order.

    Raises:
        UsageError: ``volume`` has not three axes.
    """
    if volume.ndim != 3:
        raise UsageError(f"A volume has three axes and this array {volume.ndim}; choose a volume.")
    taken: np.ndarray = np.asarray(np.take(volume, min(max(index, 0), volume.shape[axis] - 1), axis=axis))
    return taken


def coloured(plane: np.ndarray, limits: tuple[float, float], table: npt.ArrayLike) -> Picture:
    """Colour the values of a plane.

    Args:
        plane: (rows, columns); values that are not finite are shown as the lowest.
        limits: the values of the table's first and last colour; what lies beyond is cut off.
        table: (n, 3) RGB, 0 to 1, from the lowest value to the highest.

    Returns:
        (rows, columns, 3).
    """
    colours = np.rint(255 * np.asarray(table, dtype=np.float64)).astype(np.uint8)
    low, high = (float(limit) for limit in limits)
    scaled = (plane.astype(np.float32) - low) / max(high - low, float(np.finfo(np.float32).tiny))
    places = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) * (len(colours) - 1)
    found: Picture = colours[np.rint(places).astype(np.intp)]
    return found


def laid_over(
    picture: Picture, labels: np.ndarray, colours: npt.ArrayLike, opacity: float, *, outline: bool
) -> Picture:
    """Lay labels over a picture.

    Args:
        picture: (rows, columns, 3).
        labels: (rows, columns) label ids.
        colours: (rows, columns, 4) RGBA of each pixel's label, 0 to 1; alpha 0 is not drawn.
        opacity: 0 to 1, of the whole layer.
        outline: draw only pixels at the edge of their label.

    Returns:
        A new picture.
    """
    rgba = np.asarray(colours, dtype=np.float32)
    alpha = rgba[..., 3:] * opacity
    if outline:
        alpha = alpha * find_boundaries(labels, connectivity=1, mode="thick")[..., None]
    mixed = picture * (1 - alpha) + 255 * rgba[..., :3] * alpha
    found: Picture = np.rint(mixed).astype(np.uint8)
    return found
