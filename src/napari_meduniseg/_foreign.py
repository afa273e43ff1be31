"""Layers that another reader (napari's own, say) opened from a file, and what it missed that ours would have told."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images import Finding, Image, read_image
from meduniseg_core.images.formats import ending_of
from meduniseg_core.images.grid import relate
from meduniseg_core.images.upright import as_stored, stored_orientation
from napari_meduniseg._layer_input import LayerSnapshot, as_image

_LARGEST = 1 << 28  # bytes of a file that is read once more
_ENOUGH = 1000  # pixels of a side tell which way up a picture is


def left_out(snapshots: Iterable[LayerSnapshot]) -> tuple[Finding, ...]:
    """List one finding per layer that does not show its file as the file asks for; for a worker's thread.

    That is a photograph shown as it is stored (rotated), or a scan that does not lie where its file says. Layers whose
    voxels have changed since (cropped, say) cannot be compared.
    """
    found = (_of_one(item) for item in snapshots)
    return tuple(finding for finding in found if finding is not None)


def _of_one(item: LayerSnapshot) -> Finding | None:
    path = item.read_from
    if item.known or path is None or ending_of(path) is None:
        return None
    try:
        facts = path.stat()
        if not path.is_file() or facts.st_size > _LARGEST:
            return None
    except OSError:
        return None
    image = _as_filed(path, facts.st_mtime_ns, facts.st_size)
    if image is None:
        return None
    if not image.physical:
        return _turned(item, image, path)
    shapes = [sorted(geometry.shape) for geometry in (item.outline.geometry, image.geometry)]
    if shapes[0] != shapes[1] or (
        item.outline.physical and relate(item.outline.geometry, image.geometry).relation in ("same", "reordered")
    ):
        return None
    return Finding(
        "opened_elsewhere",
        f"{path.name} was opened by another reader than MedUniSeg's, and does not lie as its file says (voxel size, "
        "place or orientation): the result may be wrong; open it again with MedUniSeg.",
    )


@lru_cache(maxsize=16)
def _as_filed(path: Path, modified: int, size: int) -> Image | None:
    """A file's image, read once while the file stays as it is; None if it is not ours to read.

    Voxels are kept of turned photographs alone, which are compared by them.
    """
    try:
        image = read_image(path)
    except (MedUniSegError, OSError):
        return None
    if not image.physical and stored_orientation(image) != 1:
        return image
    return image.with_array(np.broadcast_to(image.array[:1, :1, :1, :1].copy(), image.array.shape))


def _turned(item: LayerSnapshot, image: Image, path: Path) -> Finding | None:
    orientation = stored_orientation(image)
    if orientation == 1:
        return None
    shown, stored = as_image(item), as_stored(image, orientation)
    if not _is_nearer(shown, stored, image):
        return None
    return Finding(
        "opened_elsewhere",
        f"{path.name} is stored turned (EXIF orientation {orientation}), and the reader that opened it shows it so: "
        "the network sees it turned, and the result may be wrong; open it with MedUniSeg, which turns it upright.",
    )


def _is_nearer(shown: Image, stored: Image, upright: Image) -> bool:
    """Whether ``shown`` is the picture as it is stored rather than upright, however its values were changed since."""
    fits = [shown.geometry.shape == other.geometry.shape for other in (stored, upright)]
    if fits != [True, True]:
        return fits == [True, False]
    step = max(1, max(shown.geometry.shape) // _ENOUGH)
    ours, *others = (
        image.array[..., ::step, ::step].mean(axis=0, dtype=np.float64).ravel() for image in (shown, stored, upright)
    )
    alike = [_correlation(ours, other) for other in others]
    return alike[0] > alike[1]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
