"""Resampling as nnU-Net does it: splines through every voxel, slice by slice where one axis is far coarser.

nnU-Net calls skimage's ``resize``, which is scipy's ``zoom``, in double precision. A spline is separable and linear in
the voxels, so a small matrix per axis does the same. The matrix is what scipy makes of unit impulses
(`resample.axis_matrix`); matrix products take a fraction of the time and memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.preprocessing.resample import Rule, Rules, axis_matrix
from meduniseg_core.preprocessing.scheme import Resampling

_CHUNK_BYTES = 64 * 2**20
_SAME = 1e-5  # spacings that differ by less are one: headers hold them in single precision
_RULES: tuple[Rule, ...] = ("nearest", "linear", "spline2", "spline3", "spline4", "spline5")


def separate_axis(current: Vector3, target: Vector3, how: Resampling) -> int | None:
    """Find the axis across which slices are resampled separately.

    nnU-Net's rule looks at the current grid first.

    Args:
        current: The array's spacing in mm along (D, H, W).
        target: The result's spacing.
        how: The plan's settings.

    Returns:
        The axis; None where there is none.
    """
    if how.separate is False:
        return None
    chosen = current
    if how.separate is None:
        coarse = [s for s in (current, target) if max(s) / min(s) > how.anisotropy]
        if not coarse:
            return None
        chosen = coarse[0]
    axes = [axis for axis in range(3) if max(chosen) / chosen[axis] < 1 + _SAME]
    return axes[0] if len(axes) == 1 else None


def spline_rules(current: Vector3, target: Vector3, how: Resampling) -> Rules:
    """Find the rule of every axis.

    Args:
        current: The array's spacing in mm along (D, H, W).
        target: The result's spacing.
        how: The plan's settings.

    Returns:
        One rule per axis.
    """
    apart = separate_axis(current, target, how)
    d, h, w = (_RULES[how.order_across if axis == apart else how.order] for axis in range(3))
    return Rules((d, h, w))


def resample_splines(
    array: np.ndarray, shape: Shape3, current: Vector3, target: Vector3, how: Resampling
) -> np.ndarray:
    """Resample all channels by splines.

    Results of order 2 or more are clamped to the range of what was resampled together: a channel, or a slice.

    Args:
        array: float32 ``(C, D, H, W)``.
        shape: The result's shape (d, h, w).
        current: The array's spacing in mm along (D, H, W).
        target: The result's spacing.
        how: The plan's settings.

    Returns:
        float32 ``(C, d, h, w)``.
    """
    size = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    if how.kind == "none" or size == tuple(shape):
        return array
    apart = separate_axis(current, target, how)
    rules = spline_rules(current, target, how).rule
    lead = 0 if apart is None else apart
    first, second = (axis for axis in range(3) if axis != lead)
    to_lead, to_first, to_second = (axis_matrix(size[a], shape[a], rules[a]) for a in (lead, first, second))
    out = np.empty((array.shape[0], *shape), dtype=np.float32)
    step = max(1, _CHUNK_BYTES // (4 * max(1, size[first] * size[second])))
    for channel, result in zip(array, out, strict=True):
        slices = np.moveaxis(channel, lead, 0)
        planes = torch.empty((size[lead], shape[first], shape[second]))
        for start in range(0, size[lead], step):
            part = torch.from_numpy(np.ascontiguousarray(slices[start : start + step]))
            resized = to_first @ (part @ to_second.T)
            if apart is not None and how.order > 1:
                _hold(resized, part.amin((1, 2)), part.amax((1, 2)))
            planes[start : start + step] = resized
        if size[lead] != shape[lead]:
            planes = (to_lead @ planes.reshape(size[lead], -1)).reshape(shape[lead], *planes.shape[1:])
        if apart is None and how.order > 1:
            planes.clamp_(float(channel.min()), float(channel.max()))
        result[...] = np.moveaxis(planes.numpy(), 0, lead)
    return out


def _hold(slices: Tensor, low: Tensor, high: Tensor) -> None:
    torch.clamp(slices, low[:, None, None], high[:, None, None], out=slices)
