"""Where a training starts if not from random weights: the interface of fine-tuning and refinement."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from meduniseg_core.events import EventSink
from meduniseg_core.model import UniversalNetwork
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.weights import ModelInfo, save_model


class Start(Protocol):
    """Decides which network a run trains, with which weights, which of them learn, and what the run saves."""

    @property
    def identity(self) -> str:
        """What must not change before a resume: the base model and how it is taken over."""

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the run's model.

        Args:
            info: the model as the data sets ask for it.

        Returns:
            A changed copy. It has at least the tasks of the data sets.
        """

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Load weights into a fresh network, and freeze (``requires_grad_(False)``) those that do not learn.

        Args:
            network: changed in place.
            info: description of the run's model.
        """

    def report(self, folder: Path, events: EventSink) -> None:
        """Say, once at a run's start, what was loaded; nothing where there is nothing to choose.

        Args:
            folder: the run's folder.
            events: receives sentences.
        """
        return

    def plan_of(self, dataset: RawDataset) -> TaskPlan | None:
        """Decide how a data set is preprocessed.

        Args:
            dataset: a data set of the run.

        Returns:
            The plan; None to plan from the data and the configuration.
        """
        return None

    def learner(self, network: UniversalNetwork) -> nn.Module:
        """The modules that learn and that checkpoints hold.

        Args:
            network: the loaded network.

        Returns:
            The network itself, or modules added to it.
        """
        return network

    def save(self, path: Path, info: ModelInfo, learner: nn.Module) -> None:
        """Save the run's result.

        Args:
            path: the file.
            info: description of the run's model.
            learner: the trained modules.
        """
        save_model(path, info, learner.state_dict())
