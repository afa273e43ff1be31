"""What every task requires of an image, however its network wants it prepared."""

from __future__ import annotations

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image
from meduniseg_core.images.checks import LARGEST_VALUE
from meduniseg_core.preprocessing.plan import TaskPlan


def check_voxel_size(image: Image, plan: TaskPlan) -> None:
    """Check that an image has a size in mm.

    Args:
        image: ``(C, D, H, W)``.
        plan: The plan of a task that works in mm.

    Raises:
        BadInputError: The image has none.
    """
    if not image.physical:
        raise BadInputError(
            f"{image.name} has no voxel size and task {plan.task} needs one in mm; "
            "give a format that stores it, such as NIfTI."
        )


def check_volume(image: Image, plan: TaskPlan) -> None:
    """Check that a task of volumes gets a volume.

    Args:
        image: ``(C, D, H, W)``.
        plan: The task's plan.

    Raises:
        BadInputError: The image is 2D and the task takes volumes.
    """
    if plan.dimension == 3 and image.is_2d:
        slice_of_series = image.meta.get("format") == "dicom" and image.meta.get("orientation_known")
        remedy = "the folder of its series, with all slices" if slice_of_series else "a volume"
        raise BadInputError(f"{image.name} is a 2D image and task {plan.task} takes volumes; give {remedy}.")


def check_network_values(array: np.ndarray, name: str) -> None:
    """Check that a network can take all values.

    Args:
        array: Voxels ``(C, D, H, W)``.
        name: The image's name, for the message.

    Raises:
        BadInputError: A value is NaN, infinite or beyond `LARGEST_VALUE`.
    """
    if array.dtype.kind != "f":
        return
    limit = min(LARGEST_VALUE, float(np.finfo(array.dtype).max))
    if all(bool((np.abs(slab) <= limit).all()) for channel in array for slab in channel):  # False for NaN, too
        return
    raise BadInputError(
        f"{name} holds values that are not finite, or beyond {LARGEST_VALUE:g} and so beyond what can be computed "
        "with; replace them first."
    )
