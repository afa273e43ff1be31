"""Ways to plan a data set: the paper's fixed plan, nnU-Net's rules, or the median grid within the paper's sizes."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.preprocessing.fingerprint import Fingerprint

Planner = Literal["default", "paper", "nnunet"]
"""``paper``: one grid, patch and batch for all data sets (docs/spec.md section 6). ``nnunet``: nnU-Net's rules for
spacing, patch and batch. ``default``: the median spacing, and patch and batch of the paper's size."""

PAPER_SPACING: Vector3 = (3.0, 1.5, 1.5)
PAPER_LONGEST_SIDE = 512
PAPER_PATCH: dict[int, Shape3] = {2: (1, 512, 512), 3: (64, 192, 192)}
PAPER_BATCH = {2: 12, 3: 2}

STEP_FACTOR = 12.0
"""Bytes of a training step in bf16 over those of one full-resolution feature map of the batch in fp32. Measured on the
CPU: 11 (`training.memory` has the figures)."""

PAPER_WIDTH = 32
_WEIGHTS = 0.6 * 2**30  # weights, gradients, momentum and the libraries' own workspace, bytes
_SHARE = 0.9  # of the memory; the rest is lost between blocks
_ANISOTROPIC = 3.0  # nnU-Net: above this ratio the coarsest axis keeps a finer spacing than its median
_FINE_PERCENTILE = 10.0
_LARGEST_SHARE = 0.05  # nnU-Net: a batch holds at most this share of all voxels
_WHOLE_3D, _WHOLE_2D = 256**3, 2048**2  # nnU-Net: the patch that is then made smaller


def plan_options(
    planner: Planner, marks: Fingerprint, *, gpu_memory: float | None = None, width: int = PAPER_WIDTH
) -> dict[str, Any]:
    """Choose what a planner fixes.

    Args:
        planner: the planner.
        marks: the data set's fingerprint.
        gpu_memory: GiB that a training step may take; None: what the paper's patches and batches take.
        width: number of features of the network's finest stage.

    Returns:
        Arguments of `planning.make_plan`.

    Raises:
        UsageError: the paper's plan does not depend on a GPU's memory.
    """
    if planner == "paper":
        if gpu_memory is not None:
            raise UsageError(
                "The paper's plan is the same for every GPU; leave the GPU's memory out, or choose the planner nnunet "
                "(a training that needs less memory: micro_batch = 1, activation_checkpointing = true)."
            )
        grid = {"spacing": PAPER_SPACING} if marks.dimension == 3 else {"longest_side": PAPER_LONGEST_SIDE}
        return {**grid, "patch": PAPER_PATCH[marks.dimension], "batch": PAPER_BATCH[marks.dimension]}
    options: dict[str, Any] = {}
    if gpu_memory is not None:
        room = voxels_within(gpu_memory, width)
        options |= {"batch_voxels": room, "patch_voxels": room // 2}
    if planner == "nnunet":
        options |= {"nnunet": True}
    return options


def voxels_within(gpu_memory: float, width: int = PAPER_WIDTH) -> int:
    """How many voxels a batch may have.

    Args:
        gpu_memory: GiB of the GPU.
        width: number of features of the network's finest stage.

    Returns:
        Voxels of all samples together, for training in bf16.

    Raises:
        UsageError: it is too little memory for any training.
    """
    room = _SHARE * gpu_memory * 2**30 - _WEIGHTS
    voxels = int(room / (STEP_FACTOR * width * 4))
    if voxels < 2 * 32**3:
        raise UsageError(f"{gpu_memory:g} GiB are too little to train with {width} features; name a larger GPU.")
    return voxels


def nnunet_spacing(marks: Fingerprint) -> Vector3:
    """nnU-Net's target spacing: the median; along an axis much coarser than the others, the 10th percentile.

    Args:
        marks: the data set's fingerprint.

    Returns:
        Spacing along (D, H, W) in mm.
    """
    spacings, shapes = np.array(marks.spacings), np.array(marks.shapes, dtype=float)
    target, size = np.median(spacings, axis=0), np.median(shapes, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > _ANISOTROPIC * max(target[others])
    if marks.dimension == 3 and coarse and size[worst] * _ANISOTROPIC < min(size[others]):
        finer = float(np.percentile(spacings[:, worst], _FINE_PERCENTILE))
        target[worst] = max(finer, max(target[others]) + 1e-5)
    return float(target[0]), float(target[1]), float(target[2])


def nnunet_start(median: Shape3, spacing: Vector3 | None, dimension: int) -> Shape3:
    """The patch that nnU-Net begins with: of equal sides in mm, and not larger than the median image.

    Args:
        median: the median shape (D, H, W) on the network's grid.
        spacing: of that grid in mm; None where images have no size.
        dimension: 2 or 3.

    Returns:
        The patch (D, H, W), to be made smaller until it fits.
    """
    axes = [1, 2] if dimension == 2 else [0, 1, 2]
    inverse = np.array([1.0 if spacing is None else 1 / spacing[axis] for axis in axes])
    sides = inverse * ((_WHOLE_2D if dimension == 2 else _WHOLE_3D) / inverse.prod()) ** (1 / len(axes))
    start = [1, 1, 1]
    for axis, side in zip(axes, sides, strict=True):
        start[axis] = max(1, min(round(float(side)), median[axis]))
    return start[0], start[1], start[2]


def nnunet_batch(batch: int, patch: Shape3, median: Shape3, cases: int) -> int:
    """Limit a batch as nnU-Net does: to 5 % of all voxels of the data set, and never below 2.

    Args:
        batch: what memory allows.
        patch: (D, H, W).
        median: the median shape on the network's grid.
        cases: number of training cases.

    Returns:
        The batch.
    """
    allowed = round(math.prod(median) * cases * _LARGEST_SHARE / math.prod(patch))
    return max(2, min(batch, allowed))
