"""Checks whether an image without a size in mm shows about as much as the training images, so that objects are as
large."""

from __future__ import annotations

from collections.abc import Iterator

from meduniseg_core.errors import UsageError
from meduniseg_core.images import Finding, Image
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.detail import TOLERANCE, detail_distance, detail_features, is_finer
from meduniseg_core.preprocessing.plan import MAX_SIDE

WITHOUT_A_FRAME = ("pathology",)
"""A field cut from a slide: only at its magnification, and so its pixel count, can one see how much it shows. What an
instrument frames (an eye's fundus, a chest) is shown whole in any number of pixels."""

_PIXELS = 1.5  # times more or fewer than all training images


def scaled_plan(plan: TaskPlan, scale: float) -> TaskPlan:
    """Adapt a plan to an image that shows more or less than the training images.

    Args:
        plan: the task's plan.
        scale: how many times more than the training images the image shows along a side.

    Returns:
        The plan with a working size to match.

    Raises:
        UsageError: the scale is not plausible, or the task goes by the image's size in mm.
    """
    if scale == 1:
        return plan
    if plan.longest_side is None:
        raise UsageError(f"Task {plan.task} goes by the image's size in mm; correct that instead of giving a scale.")
    if not 0.02 <= scale <= 100:
        raise UsageError(f"A scale of {scale:g} is impossible; say how many times more an image shows along a side.")
    return plan.model_copy(update={"longest_side": max(16, min(MAX_SIDE, round(plan.longest_side * scale)))})


def field_of_view(image: Image, plan: TaskPlan, scale: float = 1.0) -> Iterator[Finding]:
    """Look for signs that an image shows far more or less than the training images.

    Args:
        image: (C, D, H, W).
        plan: the task's plan, scaled already (:func:`scaled_plan`).
        scale: the scale that the user gave.

    Yields:
        At most one finding; none if the plan has no statistics.
    """
    known = plan.statistics
    if known is None or plan.longest_side is None or not image.is_2d:
        return
    if plan.modality in WITHOUT_A_FRAME and known.spacing is None:
        own = max(image.geometry.shape[1:]) / scale
        low, high = (max(known.extent[1][end], known.extent[2][end]) for end in (0, 1))
        if not low / _PIXELS <= own <= high * _PIXELS:
            factor = own / (low * high) ** 0.5
            how = f"{factor:.2g} times as much" if factor > 1 else f"1/{1 / factor:.2g} as much"
            text = (
                f"{image.name} is {max(image.geometry.shape[1:])} pixels long and the training images were "
                f"{low:.0f} to {high:.0f}: at their magnification it shows {how} along a side, and the result may be "
                f"wrong; give its scale (--scale {factor * scale:.2g}) or cut it to that size."
            )
            yield Finding("field_of_view", text, scale=factor * scale)
            return
    features = None if known.detail is None else detail_features(image, plan)
    if known.detail is None or features is None or detail_distance(features, known.detail) <= TOLERANCE:
        return
    more, way = ("more", "finer") if is_finer(features, known.detail) else ("less", "coarser")
    yield Finding(
        "field_of_view",
        f"The detail of {image.name} is {way} than that of the training images: it may show {more} than they do, be "
        f"blurred or of another kind; look at the result, and give its scale (--scale) where it shows {more}.",
    )
