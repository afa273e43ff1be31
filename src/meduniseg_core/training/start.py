"""Where a training starts when it does not start from random weights: fine-tuning, refinement."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.weights import ModelInfo, save_model


class Start(Protocol):
    """Says what network a run trains, with which weights, which of them learn, and what the run leaves."""

    @property
    def fingerprint(self) -> str:
        """What a resume must find unchanged: the base model and how it is taken over."""

    def describe(self, info: ModelInfo) -> ModelInfo:
        """The run's model as the data sets ask for it, changed to what this start makes of it.

        Its tasks are those of the data sets, and may be more.
        """

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Put weights into the fresh ``network`` of ``info``, and ``requires_grad_(False)`` on what is frozen."""

    def plan_of(self, dataset: RawDataset) -> TaskPlan | None:
        """How a data set is preprocessed; None plans it from the data and the configuration."""
        return None

    def learner(self, network: MedUniSeg) -> nn.Module:
        """What learns and what checkpoints hold: the loaded network, or modules that were put beside it."""
        return network

    def save(self, path: Path, info: ModelInfo, learner: nn.Module) -> None:
        """Write what the run leaves."""
        save_model(path, info, learner.state_dict())
