"""The models of ``segment``, ready to run: in this process, or in that of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from training_cli.case_work import Team
from training_cli.packs import packs_for


@dataclass(frozen=True)
class TeamOrder:
    """A model by name or file, how it is to run and for what tasks.

    ``pack``, ``no_packs`` and ``ensemble`` are the options of those names.
    """

    model: str
    tasks: tuple[str, ...]
    device: str
    precision: str
    pack: tuple[str, ...] = ()
    no_packs: bool = False
    ensemble: tuple[str, ...] = ()


def make_team(order: TeamOrder) -> Team:
    """Load a model, its packs, and the models that it is averaged with."""
    from meduniseg_core.inference import Predictor
    from meduniseg_core.inference.ensemble import Ensemble
    from meduniseg_core.weights import load_model

    loaded = load_model(order.model)
    packs = packs_for(loaded, list(order.tasks), list(order.pack), order.no_packs)
    tasks = list(order.tasks)
    predictor = Predictor(loaded, device=order.device, precision=order.precision, packs=packs)
    if not order.ensemble:
        return Team(predictor, tasks)
    others = [Predictor(load_model(name), device=order.device, precision=order.precision) for name in order.ensemble]
    joined = Ensemble([predictor, *others])
    joined.check(tasks)
    return Team(joined, tasks)
