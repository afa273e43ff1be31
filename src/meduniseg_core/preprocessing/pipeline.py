"""Preprocessing of one image and its labels: orientation, crop, resampling, normalisation."""

from __future__ import annotations

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.images import Image, Reorientation, canonical_orientation, place_labels
from meduniseg_core.images.boxes import Box, box_shape, box_slices, box_union, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.preprocessing.body import body_box, constant_background, mask_box
from meduniseg_core.preprocessing.channels import match_channels
from meduniseg_core.preprocessing.image_requirements import check_network_values, check_volume, check_voxel_size
from meduniseg_core.preprocessing.normalise import fill_mask_holes, normalise
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.resample import (
    Rules,
    image_rules,
    label_rules,
    photograph_rules,
    resample,
    resample_labels,
)
from meduniseg_core.preprocessing.scheme_pipeline import preprocess_by_scheme
from meduniseg_core.preprocessing.spatial_transform import Preprocessed, SpatialTransformRecord
from meduniseg_core.preprocessing.working_size import check_room, check_working_size, target_shape, target_spacing


def preprocess(
    image: Image, plan: TaskPlan, *, keep: Image | None = None, room: int | None = None, events: EventSink = ignore
) -> Preprocessed:
    """Prepare an image for the network: canonical orientation, crop to the body, resampling, normalisation.

    With ``plan.spacing`` (mm) the image must have a size in mm. With ``plan.longest_side`` its longer side is scaled to
    that many pixels and nothing is cropped. A depth of 1 stays 1. For a task of colour images a grey image is repeated
    to three channels; for a task of one channel a colour image becomes luminance. A plan with a scheme follows
    nnU-Net's steps exactly (`scheme_pipeline`).

    Args:
        image: ``(C, D, H, W)``.
        plan: The task's plan.
        keep: A label map of the image (in training), whose foreground the crop must not lose.
        room: How many bytes may be used; None: not checked.
        events: Receives messages about changes.

    Returns:
        The array that the network takes, and the record that leads back to the image.

    Raises:
        BadInputError: The channels do not match, the image is 2D or a volume where the task takes the other, it has no
            size in mm where one is needed, its voxel size is impossible, values are not finite, or its axes are not
            perpendicular.
        OutOfMemoryError: ``room`` is too small; nothing was computed yet.
    """
    if plan.scheme is not None:
        return preprocess_by_scheme(image, plan, plan.scheme, room=room, events=events)
    _check_geometry(image, plan)
    canonical, reorientation = canonical_orientation(image)
    _check_dimension(canonical, plan)
    check_working_size(canonical.geometry, plan, image.name)
    array = match_channels(canonical, plan, events)
    check_network_values(array, image.name)

    box = _box(array, canonical, plan, keep, reorientation, events)
    cropped = array[(slice(None), *box_slices(box))]
    shape = target_shape(canonical.geometry, box, plan)
    if room is not None:
        check_room(box_shape(box), shape, plan, image.name, room)
    if plan.longest_side is not None:
        rules, of_labels = photograph_rules(plan.low_pass), Rules(("nearest", "linear", "linear"))
    else:
        current, target = canonical.geometry.spacing, target_spacing(canonical.geometry, plan)
        rules, of_labels = image_rules(current, target, plan.low_pass), label_rules(current, target)
    mask = _foreground_mask(array, cropped, shape, plan)
    data = resample(cropped, shape, rules)
    normalise(data, plan, mask)

    return Preprocessed(
        data, SpatialTransformRecord.of(image, reorientation, canonical.geometry, box, shape, of_labels)
    )


def preprocess_labels(labels: Image, trace: SpatialTransformRecord) -> np.ndarray:
    """Bring labels onto the network's grid.

    Each class is resampled linearly, and the strongest wins; classes too thin for that keep their voxels.

    Args:
        labels: ``(1, D, H, W)``, on the grid of the recorded image (see `place_labels`).
        trace: The record of that image's preprocessing.

    Returns:
        uint8 ``(d, h, w)``.

    Raises:
        BadInputError: The labels lie on another grid, or an id is not in 0..255.
    """
    labels = place_labels(labels, trace.outline)
    array = labels.array[0]
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise BadInputError(f"{labels.name} has label ids from {low} to {high}; use ids from 0 to 255.")
    canonical = trace.reorientation.forward(labels.array)[0]
    return resample_labels(canonical[box_slices(trace.box)], trace.grid.shape, trace.label_rules)


def _check_geometry(image: Image, plan: TaskPlan) -> None:
    if plan.spacing is not None:
        check_voxel_size(image, plan)
    if image.physical and not image.geometry.is_orthonormal():
        raise BadInputError(
            f"The axes of {image.name} are not at right angles (shear or gantry tilt); "
            "resample it to a rectangular grid first."
        )


def _check_dimension(canonical: Image, plan: TaskPlan) -> None:
    if plan.dimension == 2 and not canonical.is_2d:
        raise BadInputError(
            f"{canonical.name} is a volume of {canonical.geometry.shape[0]} slices and task {plan.task} takes 2D "
            "images; give its slices one by one."
        )
    check_volume(canonical, plan)


def _box(
    array: np.ndarray,
    canonical: Image,
    plan: TaskPlan,
    keep: Image | None,
    reorientation: Reorientation,
    events: EventSink,
) -> Box:
    if not plan.crop_to_body or plan.longest_side is not None or canonical.is_2d:
        return whole_box(array.shape[1:])
    box = body_box(array, plan.normalisation)
    if keep is not None:
        foreground = reorientation.forward(keep.array)[0] > 0
        if foreground.any():
            with_labels = box_union(box, mask_box(foreground))
            if with_labels != box:
                events(
                    Message(
                        "info",
                        f"Labels of {canonical.name} reach beyond the body that was found: the crop was widened.",
                    )
                )
            box = with_labels
    return box


def _foreground_mask(array: np.ndarray, cropped: np.ndarray, shape: Shape3, plan: TaskPlan) -> np.ndarray | None:
    """Where the cropped image differs from its constant background, holes filled, on the network's grid."""
    if "zscore_nonzero" not in plan.normalisation:
        return None
    mask = np.zeros(cropped.shape[1:], dtype=bool)
    for whole, part in zip(array, cropped, strict=True):
        background = constant_background(whole)
        mask |= part != (0.0 if background is None else background)
    linear = Rules(("linear", "linear", "linear"))
    return fill_mask_holes(resample(mask[None], shape, linear)[0] >= 0.5)
