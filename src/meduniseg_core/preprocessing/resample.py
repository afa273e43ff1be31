"""Resampling on regular grids, axis by axis, with half-pixel centres.

Both grids cover the same extent: output voxel ``i`` of ``n_out`` has its centre at source position ``(i + 0.5) * n_in /
n_out - 0.5``. So the way back follows the same rule with the sizes exchanged. Every rule (nearest, linear, cubic,
spline, with or without low-pass) is a small matrix per axis, and CPUs are fastest at matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from meduniseg_core.images.geometry import Shape3, Vector3

Rule = Literal["nearest", "linear", "cubic", "spline2", "spline3", "spline4", "spline5"]
"""``splineN`` goes through every voxel (nnU-Net's order N); ``cubic`` is Keys' local convolution."""

ANISOTROPY_THRESHOLD = 3.0
"""nnU-Net's value: if the largest spacing is more than 3 times the smallest, through-plane is nearest neighbour."""

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Rules:
    """How each axis of (D, H, W) is interpolated; ``low_pass`` widens the kernel by the factor of reduction."""

    rule: tuple[Rule, Rule, Rule]
    low_pass: tuple[bool, bool, bool] = (False, False, False)


def anisotropic_axis(current: Vector3, target: Vector3) -> int | None:
    """Find the axis that is far coarser than the others and is treated separately (nnU-Net's rule).

    Args:
        current: The image's spacing in mm along (D, H, W).
        target: The spacing to resample to.

    Returns:
        The one coarse axis of the image, else of the target; None where there is none.
    """
    for spacing in (current, target):
        if max(spacing) / min(spacing) > ANISOTROPY_THRESHOLD:
            coarse = [axis for axis in range(3) if np.isclose(spacing[axis], max(spacing), rtol=1e-3)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def image_rules(current: Vector3, target: Vector3, low_pass: bool = True) -> Rules:
    """Choose the rules for the intensities of an image with a size in mm.

    They are cubic, and nearest neighbour through-plane where the image is strongly anisotropic. An axis reduced by more
    than 2 is low-passed first. Otherwise most of its samples would be skipped, and the noise of a fine scan would
    differ from that of the coarse scans that a model was trained on.

    Args:
        current: The image's spacing in mm along (D, H, W).
        target: The spacing to resample to.
        low_pass: Whether such axes are low-passed.

    Returns:
        One rule per axis.
    """
    apart = anisotropic_axis(current, target)
    rule: list[Rule] = ["nearest" if axis == apart else "cubic" for axis in range(3)]
    reduced = [low_pass and target[axis] / current[axis] > 2.0 and axis != apart for axis in range(3)]
    return Rules((rule[0], rule[1], rule[2]), (reduced[0], reduced[1], reduced[2]))


def photograph_rules(low_pass: bool = True) -> Rules:
    """Choose the rules for a photograph: cubic in plane, low-passed when reduced (1411 -> 512 would alias vessels).

    Args:
        low_pass: Whether it is.

    Returns:
        One rule per axis.
    """
    return Rules(("nearest", "cubic", "cubic"), (False, low_pass, low_pass))


def label_rules(current: Vector3, target: Vector3) -> Rules:
    """Choose the rules for labels.

    Each class is resampled linearly, and by nearest neighbour through-plane where the image is strongly anisotropic
    (nnU-Net's orders 1 and 0).

    Args:
        current: The image's spacing in mm along (D, H, W).
        target: The spacing to resample to.

    Returns:
        One rule per axis.
    """
    apart = anisotropic_axis(current, target)
    rule: list[Rule] = ["nearest" if axis == apart else "linear" for axis in range(3)]
    return Rules((rule[0], rule[1], rule[2]))


def nearest_indices(n_in: int, n_out: int) -> np.ndarray:
    """Find the source voxel that holds each output voxel's centre.

    Args:
        n_in: Voxels of the source.
        n_out: Voxels of the output.

    Returns:
        Indices, int64 ``(n_out,)``.
    """
    # in integers, so that the result is exact: floor((2 i + 1) n_in / (2 n_out))
    return np.asarray((2 * np.arange(n_out, dtype=np.int64) + 1) * n_in // (2 * n_out))


@lru_cache(maxsize=256)
def axis_matrix(n_in: int, n_out: int, rule: Rule, low_pass: bool = False) -> torch.Tensor:
    """Make the matrix that resamples one axis.

    Args:
        n_in: Voxels of the source.
        n_out: Voxels of the output.
        rule: The interpolation.
        low_pass: Whether the kernel widens with the reduction; without effect on nearest neighbour and splines.

    Returns:
        float32 ``(n_out, n_in)``. Each row holds the weights of one output voxel; voxels at the edge are repeated.
    """
    matrix = np.zeros((n_out, n_in))
    rows = np.arange(n_out)
    if rule == "nearest":
        matrix[rows, nearest_indices(n_in, n_out)] = 1.0
        return torch.from_numpy(matrix.astype(np.float32))
    if rule not in ("linear", "cubic"):
        return _spline_matrix(n_in, n_out, int(rule[-1]))
    scale = n_in / n_out
    stretch = max(1.0, scale) if low_pass else 1.0
    reach = (1.0 if rule == "linear" else 2.0) * stretch
    centre = (rows + 0.5) * scale - 0.5
    first = np.floor(centre - reach).astype(np.int64) + 1
    for tap in range(int(np.ceil(2 * reach)) + 1):
        column = first + tap
        weight = _kernel((column - centre) / stretch, rule)
        np.add.at(matrix, (rows, np.clip(column, 0, n_in - 1)), weight)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return torch.from_numpy(matrix.astype(np.float32))


def _spline_matrix(n_in: int, n_out: int, order: int) -> torch.Tensor:
    """The matrix of scipy's spline of this order: its result for every unit impulse."""
    from scipy import ndimage

    zoomed = ndimage.zoom(np.eye(n_in), (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True)
    return torch.from_numpy(zoomed.astype(np.float32))


def _kernel(distance: np.ndarray, rule: Rule) -> np.ndarray:
    x = np.abs(distance)
    if rule == "linear":
        return np.asarray(np.maximum(0.0, 1.0 - x))
    # Keys' cubic convolution with a = -1/2
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def resample_bytes(size: Shape3, shape: Shape3, channels: int) -> int:
    """Estimate the memory that `resample` needs.

    Args:
        size: The source's shape (D, H, W).
        shape: The result's shape (d, h, w).
        channels: The number of channels.

    Returns:
        The most bytes it takes, result included.
    """
    if size == shape:
        return 4 * channels * shape[0] * shape[1] * shape[2]
    plane = size[0] * shape[1] * shape[2]
    matrices = 3 * max(n_in * n_out for n_in, n_out in zip(size, shape, strict=True))  # in double precision first
    return 4 * (channels * shape[0] * shape[1] * shape[2] + plane + matrices) + _CHUNK_BYTES


def resample(array: np.ndarray, shape: Shape3, rules: Rules) -> np.ndarray:
    """Resample an array.

    Cubic results are clamped to each channel's own range. Beside the result, memory is needed for one channel at the
    in-plane output size and for a chunk of slices.

    Args:
        array: ``(C, D, H, W)``, of any real dtype.
        shape: The result's shape (d, h, w).
        rules: One rule per axis.

    Returns:
        float32 ``(C, d, h, w)``.
    """
    channels = array.shape[0]
    size = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    out = np.empty((channels, *shape), dtype=np.float32)
    if size == tuple(shape):
        np.copyto(out, array, casting="unsafe")
        return out
    to_d, to_h, to_w = (axis_matrix(size[a], shape[a], rules.rule[a], rules.low_pass[a]) for a in range(3))
    step = max(1, _CHUNK_BYTES // (4 * size[1] * size[2]))
    for channel in range(channels):
        plane = torch.empty((size[0], shape[1], shape[2]), dtype=torch.float32)
        low, high = np.inf, -np.inf
        for start in range(0, size[0], step):
            part = np.array(array[channel, start : start + step], dtype=np.float32, order="C")
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            x = torch.from_numpy(part)
            if size[2] != shape[2]:
                x = x @ to_w.T
            if size[1] != shape[1]:
                x = to_h @ x
            plane[start : start + step] = x
        result = torch.from_numpy(out[channel])
        if size[0] != shape[0]:
            torch.matmul(to_d, plane.reshape(size[0], -1), out=result.view(shape[0], -1))
        else:
            result.copy_(plane)
        if "cubic" in rules.rule:
            result.clamp_(low, high)
    return out


def resample_labels(labels: np.ndarray, shape: Shape3, rules: Rules) -> np.ndarray:
    """Resample a label map.

    Each class is resampled on its own. A voxel is foreground where the classes together reach one half, and takes the
    strongest of them. A class that would vanish keeps the voxels that hold its own voxels' centres.

    Args:
        labels: ``(D, H, W)``, ids 0..255.
        shape: The result's shape (d, h, w).
        rules: One rule per axis.

    Returns:
        uint8 ``(d, h, w)``.
    """
    if labels.shape == tuple(shape):
        return np.ascontiguousarray(labels, dtype=np.uint8)
    result = np.zeros(shape, dtype=np.uint8)
    best = np.zeros(shape, dtype=np.float32)
    total = np.zeros(shape, dtype=np.float32)
    boxes = _class_boxes(labels)
    matrices = [axis_matrix(labels.shape[a], shape[a], rules.rule[a], rules.low_pass[a]) for a in range(3)]
    for value, box in boxes.items():
        rows = [_rows_touching(matrices[a], box[a]) for a in range(3)]
        if any(r.start == r.stop for r in rows):
            continue
        part = torch.from_numpy((labels[box] == value).astype(np.float32))
        share = separable(part, [matrices[a][rows[a], box[a]] for a in range(3)]).numpy()
        where = (rows[0], rows[1], rows[2])
        total[where] += share
        better = share > best[where]
        np.copyto(best[where], share, where=better)
        result[where][better] = value
    result[total < 0.5 - 1e-5] = 0
    present = np.bincount(result.ravel(), minlength=256)
    for value, box in boxes.items():
        if not present[value]:
            _stamp(result, labels, value, box)
    return result


def _class_boxes(labels: np.ndarray) -> dict[int, tuple[slice, slice, slice]]:
    from scipy import ndimage

    boxes = ndimage.find_objects(labels.astype(np.int32))
    return {value: box for value, box in enumerate(boxes, start=1) if box is not None}


def _rows_touching(matrix: torch.Tensor, columns: slice) -> slice:
    touched = torch.nonzero(matrix[:, columns].sum(dim=1) > 0).flatten()
    return slice(0, 0) if touched.numel() == 0 else slice(int(touched[0]), int(touched[-1]) + 1)


def separable(x: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Multiply an array by one matrix per axis.

    Args:
        x: float32 ``(..., D, H, W)``.
        matrices: What `axis_matrix` makes, for D, H and W.

    Returns:
        float32 ``(..., d, h, w)``.
    """
    to_d, to_h, to_w = matrices
    lead, plane = x.shape[:-3], x.shape[-2:]
    # depth first: on the way back from a coarse grid it then works on the smallest array
    deep = torch.matmul(to_d, x.reshape(*lead, x.shape[-3], -1)).reshape(*lead, to_d.shape[0], *plane)
    return torch.matmul(to_h, torch.matmul(deep, to_w.T))


def _stamp(result: np.ndarray, labels: np.ndarray, value: int, box: tuple[slice, slice, slice]) -> None:
    index = np.argwhere(labels[box] == value)
    for axis in range(3):
        position = index[:, axis] + box[axis].start
        index[:, axis] = (2 * position + 1) * result.shape[axis] // (2 * labels.shape[axis])
    result[index[:, 0], index[:, 1], index[:, 2]] = value
