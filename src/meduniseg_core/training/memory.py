"""Estimates the memory of a training step, and finds patches and batches that fit."""

from __future__ import annotations

from collections.abc import Sequence

from meduniseg_core.images.geometry import Shape3

TRAINING_FACTOR = 24.0
"""Peak memory of a step over that of one full-resolution feature map of the batch in fp32. Measured on the CPU with
base widths 16 and 32, for volumes and images: 17.5 to 22.5 in fp32, 11 in bf16."""

SHARE = 0.7
"""Share of the free memory for a step; the rest is for data, validation and other programs."""


def step_bytes(patch: Shape3, batch: int, width: int) -> int:
    """Estimate the memory for the features and gradients of one step.

    Args:
        patch: size (D, H, W) in voxels.
        batch: number of samples.
        width: number of features of the finest stage.

    Returns:
        Bytes.
    """
    return int(TRAINING_FACTOR * batch * patch[0] * patch[1] * patch[2] * width * 4)


def fitting_voxels(voxels: int, width: int, free: int) -> int:
    """Find how many voxels the patches of a step may have together.

    Args:
        voxels: the wanted number.
        width: number of features of the finest stage.
        free: free memory in bytes.

    Returns:
        The wanted number, or what fits into memory.
    """
    return max(1, min(voxels, int(SHARE * free / step_bytes((1, 1, 1), 1, width))))


def fitting(patch: Shape3, batch: int, width: int, total_stride: Sequence[int], free: int) -> tuple[Shape3, int]:
    """Find a patch and batch that fit into memory: first fewer samples, then smaller patches.

    Args:
        patch: the wanted size (D, H, W) in voxels.
        batch: the wanted number of samples.
        width: number of features of the finest stage.
        total_stride: total stride of the network; a patch stays a multiple of it and is never smaller, however little
            memory there is.
        free: free memory in bytes.

    Returns:
        Patch and batch.
    """
    room = SHARE * free
    while batch > 1 and step_bytes(patch, batch, width) > room:
        batch //= 2
    sides = list(patch)
    while step_bytes((sides[0], sides[1], sides[2]), batch, width) > room:
        smaller = [max(stride, side // 2 // stride * stride) for side, stride in zip(sides, total_stride, strict=True)]
        gains = [side / less for side, less in zip(sides, smaller, strict=True)]
        longest = max((side, axis) for axis, side in enumerate(sides) if gains[axis] > 1) if max(gains) > 1 else None
        if longest is None:
            break
        sides[longest[1]] = smaller[longest[1]]
    return (sides[0], sides[1], sides[2]), batch
