"""Whose features describe an image: those of the model in use for such images."""

from __future__ import annotations

from dataclasses import dataclass

from meduniseg_core.images import Image
from meduniseg_core.interactive.network_features import fitting_tasks
from meduniseg_core.weights.offer import Offer


@dataclass(frozen=True)
class NetworkChoice:
    """A model, by name or file, and those of its tasks whose features are taken."""

    model: str
    tasks: tuple[str, ...]


def choose_network(
    offer: Offer, image: Image, modality: str | None = None, task: str | None = None
) -> NetworkChoice | None:
    """Choose the model and the tasks whose features describe an image.

    The model is the one that does the first fitting task (`fitting_tasks`); tasks that another model does are left out,
    since each model more costs its own pass.

    Args:
        offer: the tasks there are, and which model does which.
        image: (C, D, H, W).
        modality: of the image, where it is known.
        task: the one that the image's labels are of; it comes first where it is offered and can take the image.

    Returns:
        The choice; None where no task can take such an image.
    """
    fitting = fitting_tasks(list(offer.plans.values()), image, modality, first=task)
    if not fitting:
        return None
    model = offer.models[fitting[0]]
    return NetworkChoice(model, tuple(name for name in fitting if offer.models[name] == model))
