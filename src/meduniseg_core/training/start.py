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
    def identity(self) -> str:
        """What a resume must find unchanged: the base model and how it is taken over."""

    def describe(self, info: ModelInfo) -> ModelInfo:
        """The run's model as this start makes it.

        Args:
            info: the model as the data sets ask for it.

        Returns:
            A copy. Its tasks are those of the data sets, and may be more.
        """

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Put weights into a fresh network, and freeze (``requires_grad_(False)``) what does not learn.

        Args:
            network: changed in place.
            info: of the run's model.
        """

    def plan_of(self, dataset: RawDataset) -> TaskPlan | None:
        """How a data set is preprocessed.

        Args:
            dataset: of the run.

        Returns:
            The plan; None plans it from the data and the configuration.
        """
        return None

    def learner(self, network: MedUniSeg) -> nn.Module:
        """What learns, and what checkpoints hold.

        Args:
            network: loaded.

        Returns:
            The network itself, or modules that were put beside it.
        """
        return network

    def save(self, path: Path, info: ModelInfo, learner: nn.Module) -> None:
        """Write what the run leaves.

        Args:
            path: the file.
            info: of the run's model.
            learner: what learnt.
        """
        save_model(path, info, learner.state_dict())
