"""Matching an image's channels to those that a task takes."""

from __future__ import annotations

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import EventSink, Message
from meduniseg_core.images import Image
from meduniseg_core.preprocessing.channel_names import is_colour
from meduniseg_core.preprocessing.plan import TaskPlan

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as grey conversions of photographs use


def match_channels(image: Image, plan: TaskPlan, events: EventSink) -> np.ndarray:
    """Bring an image to the channels of a task: grey becomes colour, or colour becomes luminance.

    Args:
        image: ``(C, D, H, W)``.
        plan: The task's plan.
        events: Receives a message about any change.

    Returns:
        An array ``(C', D, H, W)`` with as many channels as the task takes.

    Raises:
        BadInputError: The channels cannot be matched.
    """
    wanted = len(plan.channels)
    if image.channels == wanted:
        return image.array
    if image.channels == 1 and is_colour(plan.channels):
        events(
            Message(
                "info",
                f"{image.name} is grey and task {plan.task} takes colour images: its channel is used three times.",
            )
        )
        return np.broadcast_to(image.array, (3, *image.array.shape[1:]))
    if image.channels == 3 and wanted == 1 and all(np.array_equal(image.array[0], other) for other in image.array[1:]):
        events(Message("info", f"{image.name} has three equal channels and task {plan.task} takes one: it is grey."))
        return image.array[:1]
    if image.channels == 3 and wanted == 1 and image.meta.get("colour") == "rgb" and _is_rendering(image):
        raise BadInputError(
            f"{image.name} holds colours (RGB voxels), which say nothing of intensities, and task {plan.task} takes "
            "one channel; give the image that they were made from."
        )
    if image.channels == 3 and wanted == 1 and (image.meta.get("colour") == "rgb" or not image.physical):
        events(
            Message(
                "info", f"{image.name} is a colour image and task {plan.task} takes one channel: its luminance is used."
            )
        )
        return np.tensordot(_LUMINANCE, image.array.astype(np.float32), axes=1)[None]
    names = ", ".join(plan.channels)
    chosen = f", or pick one of several volumes (--frame 1 to {image.channels})" if image.channels > wanted == 1 else ""
    raise BadInputError(
        f"{image.name} has {image.channels} channel(s) and task {plan.task} takes {wanted} ({names}); "
        f"give those{chosen}."
    )


def _is_rendering(image: Image) -> bool:
    """Whether a program painted the colours: they are in a volume, or in a format that cameras do not use."""
    return not image.is_2d or image.meta.get("format") in ("nifti", "nrrd", "metaimage")
