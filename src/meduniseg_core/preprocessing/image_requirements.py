"""What every task asks of an image, however its network wants it prepared."""

from __future__ import annotations

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image
from meduniseg_core.preprocessing.plan import TaskPlan


def check_voxel_size(image: Image, plan: TaskPlan) -> None:
    """Refuse an image without a size in mm.

    Args:
        image: (C, D, H, W).
        plan: of a task that goes by mm.

    Raises:
        BadInputError: it has none.
    """
    if not image.physical:
        raise BadInputError(
            f"{image.name} has no voxel size and task {plan.task} needs one in mm; "
            "give a format that stores it, such as NIfTI."
        )


def check_volume(image: Image, plan: TaskPlan) -> None:
    """Refuse a 2D image for a task of volumes.

    Args:
        image: (C, D, H, W).
        plan: of the task.

    Raises:
        BadInputError: it is one.
    """
    if plan.dimension == 3 and image.is_2d:
        raise BadInputError(f"{image.name} is a 2D image and task {plan.task} takes volumes; give a volume.")


def check_finite(array: np.ndarray, name: str) -> None:
    """Refuse values that no network can take.

    Args:
        array: (C, D, H, W).
        name: the image's, for the sentence.

    Raises:
        BadInputError: NaN, infinity, or a value beyond float32.
    """
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):  # the network computes in float32
        slabs = (slab.astype(np.float32, copy=False) for channel in array for slab in channel)
        if all(bool(np.isfinite(slab).all()) for slab in slabs):
            return
    raise BadInputError(
        f"{name} holds values that are not finite (NaN, infinity, or beyond float32); replace them first."
    )
