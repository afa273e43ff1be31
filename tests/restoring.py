"""The way back, an oracle for tests: from the network's grid to the image's own, for labels and for logits.

The program does the same from windows as they become final (`inference.export`); here all logits are there.

Logits are resampled linearly (half-pixel centres, the inverse of the forward rule; the slices of strongly anisotropic
data by nearest neighbour, as on the way in) and the class that wins at each voxel is kept. That is done tile by tile,
so that no full-resolution array of all classes ever exists, and only where it matters: between voxels that all prefer
one class, a blend of them prefers it too. Both shortcuts are exact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meduniseg_core.errors import NonFiniteOutputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import box_slices
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.preprocessing.resample import Rules, axis_matrix, nearest_indices, separable
from meduniseg_core.preprocessing.spatial_transform import SpatialTransformRecord

WORKING_BYTES = 128 * 2**20
"""Default room for the arrays of one tile."""

_TILE: Shape3 = (16, 48, 48)
_ARRAYS_PER_TILE = 4  # the resampled tile, the step before it, and the arg-maximum's own

_MaybeTensor = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Restored:
    """``labels`` (1, D, H, W) uint8 (uint16 above 256 classes) on the image's grid; ``probabilities`` (K, D, H, W)
    float16 on the same grid where asked for, softmax over the task's classes."""

    labels: Image
    probabilities: Image | None = None


def resample_nearest(array: np.ndarray, shape: Shape3) -> np.ndarray:
    """``array`` (D, H, W) by nearest neighbour at ``shape`` (d, h, w), of the same dtype."""
    for axis in range(3):
        if array.shape[axis] != shape[axis]:
            array = np.take(array, nearest_indices(array.shape[axis], shape[axis]), axis=axis)
    return np.ascontiguousarray(array)


def restore_labels(array: np.ndarray, trace: SpatialTransformRecord) -> Image:
    """Label map ``array`` (d, h, w) of the network's grid on the image's grid (1, D, H, W), by nearest neighbour.

    Voxels outside the crop are 0. Raises UsageError where ``array`` is not on the traced grid.
    """
    if tuple(array.shape) != trace.grid.shape:
        raise UsageError(
            f"Labels of shape {tuple(array.shape)} do not belong to {trace.name}; give {trace.grid.shape}."
        )
    full = np.zeros(trace.canonical.shape, dtype=array.dtype)
    full[box_slices(trace.box)] = resample_nearest(array, trace.box_shape)
    return _image(full[None], trace)


def restore_bytes(
    trace: SpatialTransformRecord, classes: int, *, want_probabilities: bool = False, max_bytes: int = WORKING_BYTES
) -> int:
    """Bytes that :func:`restore_logits` needs at most beside the logits themselves."""
    voxels = int(np.prod(trace.geometry.shape))
    coarse = int(np.prod(trace.grid.shape))
    label_size = 1 if classes <= 256 else 2
    total = 2 * voxels * label_size + coarse * 2 + max_bytes  # labels twice: canonical and in the image's orientation
    if want_probabilities:
        total += 2 * voxels * 2 * classes
    return total


def restore_logits(
    logits: _MaybeTensor,
    trace: SpatialTransformRecord,
    *,
    want_probabilities: bool = False,
    background: int = 0,
    max_bytes: int = WORKING_BYTES,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Restored:
    """Labels (and probabilities) on the image's grid from ``logits`` (K, d, h, w) on the network's grid.

    ``logits``: NumPy or torch, float16, bfloat16 or float32, K the task's classes with background. Voxels outside the
    crop are ``background`` (probability 1). ``max_bytes`` bounds the working memory beside the results (at least one
    slice of one tile is always taken); :func:`restore_bytes` says what the whole needs.

    Raises UsageError where ``logits`` are not on the traced grid, NonFiniteOutputError where they are not finite,
    CancelledError once cancelled.
    """
    source = torch.from_numpy(np.ascontiguousarray(logits)) if isinstance(logits, np.ndarray) else logits.detach().cpu()
    if source.ndim != 4 or tuple(source.shape[1:]) != trace.grid.shape:
        raise UsageError(
            f"Logits of shape {tuple(source.shape)} do not belong to {trace.name}; give (K, *{trace.grid.shape})."
        )
    classes = int(source.shape[0])
    dtype = np.uint8 if classes <= 256 else np.uint16
    labels = np.full(trace.canonical.shape, background, dtype=dtype)
    inside = labels[box_slices(trace.box)]
    probabilities: np.ndarray | None = None
    shares: np.ndarray | None = None
    if want_probabilities:
        probabilities = np.zeros((classes, *trace.canonical.shape), dtype=np.float16)
        probabilities[background] = 1.0
        shares = probabilities[(slice(None), *box_slices(trace.box))]

    with torch.inference_mode():
        winners = _winners(source, dtype, trace.name)
        if trace.unchanged and shares is None:
            np.copyto(inside, winners)
        else:
            _fill(source, winners, inside, shares, trace.label_rules, max_bytes, events, cancel)
    return Restored(
        labels=_image(labels[None], trace),
        probabilities=None if probabilities is None else _image(probabilities, trace),
    )


def _fill(
    source: torch.Tensor,
    winners: np.ndarray,
    labels: np.ndarray,
    shares: np.ndarray | None,
    rules: Rules,
    max_bytes: int,
    events: EventSink,
    cancel: CancelToken | None,
) -> None:
    """Fill ``labels`` (D, H, W), and ``shares`` (K, D, H, W) where given, tile by tile."""
    classes = int(source.shape[0])
    size: Shape3 = (labels.shape[0], labels.shape[1], labels.shape[2])
    maps = [axis_matrix(int(source.shape[a + 1]), size[a], rules.rule[a]) for a in range(3)]
    spans = [_Spans(matrix) for matrix in maps]
    tile = _tile_size(classes, size, source, max_bytes)
    begin = time.monotonic()
    for d0 in range(0, size[0], tile[0]):
        if cancel is not None:
            cancel.raise_if_cancelled()
        for where in _tiles(d0, tile, size):
            region = tuple(spans[a].of(where[a]) for a in range(3))
            if shares is None:
                choice = np.unique(winners[region])
                if choice.size == 1:
                    labels[where] = choice[0]
                    continue
            part = source[(slice(None), *region)].float()
            weights = [maps[a][where[a], region[a]] for a in range(3)]
            if shares is None:
                rivals = _rivals(part)
                best = _argmax(separable(part[rivals], weights))
                labels[where] = rivals.numpy().astype(labels.dtype)[best]
            else:
                values = torch.softmax(separable(part, weights), dim=0)
                labels[where] = _argmax(values).astype(labels.dtype)
                shares[(slice(None), *where)] = values.half().numpy()
        events(Progress("restore", min(d0 + tile[0], size[0]), size[0], time.monotonic() - begin))


class _Spans:
    """Which source voxels a run of output voxels draws on, along one axis."""

    def __init__(self, matrix: torch.Tensor) -> None:
        used = (matrix != 0).numpy()
        self._first = used.argmax(axis=1)
        self._last = used.shape[1] - used[:, ::-1].argmax(axis=1)

    def of(self, run: slice) -> slice:
        return slice(int(self._first[run].min()), int(self._last[run].max()))


def _tiles(d0: int, tile: Shape3, size: Shape3) -> Iterator[tuple[slice, slice, slice]]:
    depth = slice(d0, min(d0 + tile[0], size[0]))
    for h0 in range(0, size[1], tile[1]):
        for w0 in range(0, size[2], tile[2]):
            yield depth, slice(h0, min(h0 + tile[1], size[1])), slice(w0, min(w0 + tile[2], size[2]))


def _tile_size(classes: int, size: Shape3, source: torch.Tensor, max_bytes: int) -> Shape3:
    """The usual tile, halved along its longest axis until its arrays fit ``max_bytes``."""
    tile = [min(_TILE[a], size[a]) for a in range(3)]
    shrink = [max(1.0, int(source.shape[a + 1]) / size[a]) for a in range(3)]

    def bytes_needed() -> float:
        inner = np.prod([tile[a] * shrink[a] for a in range(3)])
        return float(4 * classes * _ARRAYS_PER_TILE * max(inner, np.prod(tile)))

    while bytes_needed() > max_bytes and max(tile) > 1:
        axis = int(np.argmax(tile))
        tile[axis] = (tile[axis] + 1) // 2
    return tile[0], tile[1], tile[2]


def _rivals(part: torch.Tensor) -> torch.Tensor:
    """The classes that can win somewhere between the voxels of ``part`` (K, d, h, w): those whose best reaches the
    largest worst of any class."""
    flat = part.flatten(1)
    return torch.nonzero(flat.amax(dim=1) >= flat.amin(dim=1).amax()).flatten()


def _argmax(values: torch.Tensor) -> np.ndarray:
    """Position of the first largest along axis 0 of (K, ...), int64; faster than torch.argmax over an outer axis."""
    best = values[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int64)
    for k in range(1, values.shape[0]):
        index.masked_fill_(values[k] > best, k)
        torch.maximum(best, values[k], out=best)
    return np.asarray(index.numpy())


def _winners(source: torch.Tensor, dtype: Any, name: str) -> np.ndarray:
    """The winning class of each voxel of the network's grid, slice by slice."""
    result = np.empty(tuple(source.shape[1:]), dtype=dtype)
    for d in range(source.shape[1]):
        if not bool(torch.isfinite(source[:, d]).all()):
            raise NonFiniteOutputError(name, "run it again with the precision fp32")
        result[d] = _argmax(source[:, d])
    return result


def _image(canonical: np.ndarray, trace: SpatialTransformRecord) -> Image:
    """An image on the traced image's grid from an array (C, D, H, W) in canonical orientation."""
    array = np.ascontiguousarray(trace.reorientation.inverse(canonical))
    meta = {key: value for key, value in trace.meta.items() if key not in ("colour", "dtype")}
    return Image(array, trace.geometry, physical=trace.physical, source=trace.source, meta=meta)
