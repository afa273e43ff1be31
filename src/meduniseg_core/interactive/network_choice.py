"""Chooses the model and the tasks whose features describe an image."""

from __future__ import annotations

from dataclasses import dataclass

from meduniseg_core.images import Image
from meduniseg_core.interactive.network_features import fitting_tasks
from meduniseg_core.weights.offer import Offer


@dataclass(frozen=True)
class NetworkChoice:
    """A model, by name or file, and the tasks of it whose features are taken."""

    model: str
    tasks: tuple[str, ...]


def choose_network(
    offer: Offer, image: Image, modality: str | None = None, task: str | None = None
) -> NetworkChoice | None:
    """Choose the model and the tasks whose features describe an image.

    The model is that of the first fitting task (`fitting_tasks`). Tasks of other models are left out, since each model
    costs a pass of its own.

    Args:
        offer: the available tasks and their models.
        image: (C, D, H, W).
        modality: of the image, if known.
        task: the task of the image's labels; it comes first if it is offered and can take the image.

    Returns:
        The choice; None if no task can take such an image.
    """
    fitting = fitting_tasks(list(offer.plans.values()), image, modality, first=task)
    if not fitting:
        return None
    model = offer.models[fitting[0]]
    return NetworkChoice(model, tuple(name for name in fitting if offer.models[name] == model))
