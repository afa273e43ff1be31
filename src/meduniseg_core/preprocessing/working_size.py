"""How large an image will be on its task's grid, checked before anything is computed.

A header can claim any voxel size: micrometres written as mm, a scale of 1e10. Resampling such an image would take hours
and all memory, or leave a single voxel of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.errors import BadInputError, OutOfMemoryError
from meduniseg_core.images import Finding
from meduniseg_core.images.boxes import Box, box_shape, whole_box
from meduniseg_core.images.geometry import Geometry, Shape3, Vector3
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.resample import resample_bytes

COARSEST, FINEST = 60.0, 1 / 250
"""How much larger or smaller than the task's voxels an image's voxels may be, per axis. Beyond that its header is wrong
(units differ by a factor of 1000)."""

MOST_VOXELS = 2**31 - 1
_UNUSUALLY_COARSE, _UNUSUALLY_FINE = 12.0, 1 / 25  # of the task's own voxels
_COARSER_THAN_TRAINED = 2.5  # times the coarsest voxel of the training images
_MODEL_VOXELS, _MODEL_EXTENT = 4.0, 3.0  # times smaller than the task's voxels and its smallest training images
_BEYOND_OWN = 3.0  # a task may lie outside of what its modality usually has: that much further than its own images


def target_shape(canonical: Geometry, box: Box, plan: TaskPlan) -> Shape3:
    """Compute the size of the network's grid.

    Args:
        canonical: The image's grid in canonical orientation.
        box: The part of it that is used.
        plan: The task's plan.

    Returns:
        Voxels (d, h, w), at least 1 per axis.
    """
    size = box_shape(box)
    if plan.longest_side is not None:
        factor = plan.longest_side / max(size[1], size[2])
        scaled = [size[0], max(1, round(size[1] * factor)), max(1, round(size[2] * factor))]
    else:
        target = target_spacing(canonical, plan)
        own = canonical.spacing
        if plan.scheme is None:
            scaled = [max(1, round(size[a] * own[a] / target[a])) for a in range(3)]
        else:  # nnU-Net's order of operations, which decides where the size lies between two voxels
            scaled = [max(1, round(own[a] / target[a] * size[a])) for a in range(3)]
    return scaled[0], scaled[1], scaled[2]


def target_spacing(canonical: Geometry, plan: TaskPlan) -> Vector3:
    """Find the spacing of the network's grid.

    Args:
        canonical: The image's grid in canonical orientation.
        plan: The plan of a task that works in mm.

    Returns:
        Spacing in mm along (d, h, w); a 2D image keeps its own depth.
    """
    assert plan.spacing is not None  # TaskPlan: exactly one of spacing and longest_side
    if canonical.shape[0] == 1 or plan.dimension == 2:
        return canonical.spacing[0], plan.spacing[1], plan.spacing[2]
    return plan.spacing


def check_working_size(canonical: Geometry, plan: TaskPlan, name: str) -> None:
    """Refuse an image whose header is certain to give a wrong size, before anything is computed.

    Args:
        canonical: The image's grid in canonical orientation.
        plan: The task's plan; a task that works in pixels needs no size.
        name: The image's name, for the message.

    Raises:
        BadInputError: No image of the task or its modality has such voxels or shows so much along a side, or the
            working size is beyond any memory.
    """
    if plan.spacing is None:
        return
    target = target_spacing(canonical, plan)
    ratios = [own / wanted for own, wanted in zip(canonical.spacing, target, strict=True)]
    if max(ratios) > COARSEST or min(ratios) < FINEST:
        raise BadInputError(
            f"{name} has voxels of {_sizes(canonical.spacing)} mm and task {plan.task} works with {_sizes(target)} mm: "
            "that cannot be the size of its voxels; correct it in the header (are its units mm?)."
        )
    impossible = _impossible_size(canonical, plan)
    if impossible is not None:
        raise BadInputError(f"{name} {impossible}; correct its voxel size in the header (are its units mm?).")
    shape = target_shape(canonical, whole_box(canonical.shape), plan)
    if math.prod(shape) > MOST_VOXELS:
        raise BadInputError(
            f"{name} would have {_sizes(shape)} voxels on the grid of task {plan.task}, more than can be worked on; "
            "correct its voxel size or cut it into parts."
        )


def check_room(size: Shape3, shape: Shape3, plan: TaskPlan, name: str, room: int) -> None:
    """Check that there is memory to resample an image.

    Args:
        size: The image's shape (D, H, W).
        shape: The shape on the network's grid (d, h, w).
        plan: The task's plan.
        name: The image's name, for the message.
        room: How many bytes may be used.

    Raises:
        OutOfMemoryError: It takes more.
    """
    needed = resample_bytes(size, shape, len(plan.channels))
    if needed > room:
        raise OutOfMemoryError(
            f"Not enough memory to prepare {name} for task {plan.task} ({_sizes(shape)} voxels): about "
            f"{readable_bytes(needed)} are needed and {readable_bytes(room)} are free; "
            "cut the image into parts, or close other programs."
        )


def readable_bytes(count: int) -> str:
    """Write a number of bytes for people.

    Args:
        count: Bytes.

    Returns:
        The number in MiB or GiB.
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def unusual_spacing(canonical: Geometry, plan: TaskPlan, name: str) -> Iterator[Finding]:
    """Find a voxel size that may be right, but is far from what the task's images have.

    Args:
        canonical: The image's grid in canonical orientation.
        plan: The task's plan. If it works in pixels, an impossible size spoils measurements, but not the labels.
        name: The image's name.

    Yields:
        At most one finding.
    """
    if plan.spacing is None:
        impossible = _impossible_size(canonical, plan)
        if impossible is not None:
            text = f"{name} {impossible}, so sizes that are measured are wrong: check that its header is right."
            yield Finding("spacing_unusual", text)
        return
    target = target_spacing(canonical, plan)
    trained = None if plan.statistics is None else plan.statistics.spacing
    axes = range(3) if canonical.shape[0] > 1 and plan.dimension == 3 else (1, 2)
    if plan.statistics is not None and _is_a_scale_model(canonical, target, plan.statistics.extent, axes):
        text = (
            f"{name} has voxels of {_sizes(canonical.spacing)} mm and would show less than a third of what the "
            f"smallest training images of task {plan.task} do: check that its header is right (are its units mm?)."
        )
        yield Finding("spacing_unusual", text)
        return
    for axis in axes:
        low, high = target[axis] * _UNUSUALLY_FINE, target[axis] * _UNUSUALLY_COARSE
        if trained is not None:
            high = _COARSER_THAN_TRAINED * max(trained[axis][1], target[axis])
        own = canonical.spacing[axis]
        if not low <= own <= high:
            text = (
                f"{name} has voxels of {_sizes(canonical.spacing)} mm, and task {plan.task} works with "
                f"{_sizes(target)} mm: check that its header is right."
            )
            yield Finding("spacing_unusual", text)
            return


def _is_a_scale_model(
    canonical: Geometry, target: tuple[float, float, float], extent: Sequence[tuple[float, float]], axes: Sequence[int]
) -> bool:
    """Whether voxels and extents are both far too small, along all axes: cm or inches were taken for mm. A crop has
    small extents alone, a scanner of high resolution small voxels alone."""
    return all(
        _MODEL_VOXELS * canonical.spacing[axis] < target[axis]
        and _MODEL_EXTENT * canonical.shape[axis] * canonical.spacing[axis] < extent[axis][0]
        for axis in axes
    )


def _impossible_size(canonical: Geometry, plan: TaskPlan) -> str | None:
    """Say why no image of the task's modality can have this size, as the rest of a sentence; None where it can.

    A task beyond what its modality usually shows (animals, say) widens the bounds by its own images.
    """
    modality = MODALITIES.get(plan.modality)
    if modality is None:
        return None
    own = plan.spacing or (modality.slice_mm, *(modality.pixel_mm[1],) * 2)
    flat = canonical.shape[0] == 1
    spacing = canonical.spacing[1:] if flat else canonical.spacing
    fine, *others = sorted(spacing)
    pixel = others[0]  # the coarser side of the finest plane: slices lie along any axis
    finest = min(modality.pixel_mm[0], min(own) / _BEYOND_OWN)
    coarsest = max(modality.pixel_mm[1], _BEYOND_OWN * sorted(own)[1])
    thickest = max(modality.slice_mm, _BEYOND_OWN * max(own))
    if fine < finest or pixel > coarsest or max(spacing) > thickest:
        return f"has voxels of {_sizes(canonical.spacing)} mm, which no {modality.title} image has"
    longest = modality.longest_mm
    if plan.statistics is not None and plan.statistics.spacing is not None:
        longest = max(longest, _BEYOND_OWN * max(high for _, high in plan.statistics.extent))
    extents = (size * step for size, step in zip(canonical.shape, canonical.spacing, strict=True) if size > 1)
    shown = max(extents, default=0.0)
    if shown > longest:
        return f"would show {shown / 1000:.3g} m along a side, more than a {modality.title} image does"
    return None


def _sizes(values: tuple[float, ...] | Shape3) -> str:
    return " x ".join(f"{value:.4g}" if isinstance(value, float) else f"{value:,}" for value in values)
