"""Preprocessing by an nnU-Net model's own plans (`scheme`): nnU-Net's steps, in its order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import EventSink
from meduniseg_core.images import Image, Reorientation, canonical_orientation
from meduniseg_core.images.boxes import box_shape, box_slices
from meduniseg_core.images.geometry import Geometry, Shape3, Vector3
from meduniseg_core.preprocessing.body import mask_box
from meduniseg_core.preprocessing.channels import match_channels
from meduniseg_core.preprocessing.image_requirements import check_network_values, check_volume, check_voxel_size
from meduniseg_core.preprocessing.normalise import fill_mask_holes, normalise
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.resample import Rules
from meduniseg_core.preprocessing.scheme import Scheme
from meduniseg_core.preprocessing.spatial_transform import Preprocessed, SpatialTransformRecord
from meduniseg_core.preprocessing.spline import resample_splines, spline_rules
from meduniseg_core.preprocessing.working_size import check_room, check_working_size, target_shape, target_spacing

_ONE: Vector3 = (1.0, 1.0, 1.0)


def oriented(image: Image, plan: TaskPlan) -> tuple[Image, Reorientation]:
    """Turn an image the way the plan's network takes it: canonically, or as the plan's scheme says.

    Args:
        image: The image as it was read.
        plan: The task's plan.

    Returns:
        The image (a view), and the change, whose ``inverse`` brings arrays back.
    """
    scheme = plan.scheme
    if scheme is None:
        return canonical_orientation(image)
    change = Reorientation()
    if scheme.orientation == "RAS" and image.physical:
        # canonically h runs to the back and w to the left: the opposite of RAS
        canonical = canonical_orientation(image)[1]
        d, h, w = canonical.flips
        change = Reorientation(canonical.axes, (d, not h, not w))
    axes = [change.axes[axis] for axis in scheme.transpose]
    flips = [change.flips[axis] for axis in scheme.transpose]
    change = Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    if change.is_identity:
        return image, change
    return replace(image, array=change.forward(image.array), geometry=change.forward_geometry(image.geometry)), change


def working_geometry(image: Image, plan: TaskPlan) -> Geometry:
    """Find an image's grid along the network's axes.

    Args:
        image: The image as it was read.
        plan: The task's plan.

    Returns:
        The grid; its spacing is 1 where the plan counts in pixels.
    """
    geometry = oriented(image, plan)[0].geometry
    if plan.scheme is not None and plan.scheme.pixels:
        return replace(geometry, spacing=_ONE)
    return geometry


def preprocess_by_scheme(
    image: Image, plan: TaskPlan, scheme: Scheme, *, room: int | None, events: EventSink
) -> Preprocessed:
    """Prepare an image as nnU-Net does: turn, crop to what is not zero, normalise, resample.

    A volume for a 2D task stays a volume, whose planes are resampled and segmented one by one.

    Args:
        image: ``(C, D, H, W)``, as it was read.
        plan: The task's plan.
        scheme: The plan's scheme.
        room: How many bytes may be used; None: not checked.
        events: Receives messages about changes.

    Returns:
        The array that the network takes, and the record that leads back to the image.

    Raises:
        BadInputError: The task cannot take this image.
        OutOfMemoryError: ``room`` is too small; nothing was computed yet.
    """
    _check(image, plan, scheme)
    turned, reorientation = oriented(image, plan)
    own = working_geometry(image, plan)
    check_working_size(own, plan, image.name)
    array = match_channels(turned, plan, events)
    check_network_values(array, image.name)
    content = (array != 0).any(axis=0)
    box = mask_box(content)
    size = box_shape(box)
    target = target_spacing(own, plan)
    shape = size if scheme.image_resampling.kind == "none" else target_shape(own, box, plan)
    if room is not None:
        check_room(size, shape, plan, image.name, room)
    data = np.array(array[(slice(None), *box_slices(box))], dtype=np.float32, order="C")
    masked = "zscore_nonzero" in plan.normalisation
    mask = fill_mask_holes(content[box_slices(box)]) if masked else None
    if scheme.version == 2:
        normalise(data, plan, mask)
    data = resample_splines(data, shape, own.spacing, target, scheme.image_resampling)
    if scheme.version == 1:
        normalise(data, plan, mask if mask is None else _resampled(mask, shape, own.spacing, target, scheme))
    rules = _way_back(target, own.spacing, size, shape, scheme)
    return Preprocessed(data, SpatialTransformRecord.of(image, reorientation, turned.geometry, box, shape, rules))


def _resampled(mask: np.ndarray, shape: Shape3, own: Vector3, target: Vector3, scheme: Scheme) -> np.ndarray:
    """The mask (D, H, W) on the network's grid, as nnU-Net resamples labels with an image: linearly."""
    linear = scheme.image_resampling.model_copy(update={"order": 1})
    share = resample_splines(mask[None].astype(np.float32), shape, own, target, linear)[0]
    return np.asarray(share >= 0.5)


def _way_back(target: Vector3, own: Vector3, size: Shape3, shape: Shape3, scheme: Scheme) -> Rules:
    if size == shape:
        return Rules(("nearest", "nearest", "nearest"))
    first, second = (target, own) if scheme.version == 2 else (own, target)
    return spline_rules(first, second, scheme.logit_resampling)


def _check(image: Image, plan: TaskPlan, scheme: Scheme) -> None:
    if not scheme.pixels:
        check_voxel_size(image, plan)
    check_volume(image, plan)
    if "rgb01" in plan.normalisation and not 0 <= float(image.array.min()) <= float(image.array.max()) <= 255:
        raise BadInputError(
            f"{image.name} has values beyond 0 to 255 and task {plan.task} takes pictures; give the picture itself."
        )
