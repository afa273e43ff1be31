"""Where a training starts when it does not start from random weights: fine-tuning, refinement."""

from __future__ import annotations

from typing import Protocol

from meduniseg_core.model import MedUniSeg
from meduniseg_core.weights import ModelInfo


class Start(Protocol):
    """Says what network a run trains, with which weights, and which of them learn."""

    @property
    def fingerprint(self) -> str:
        """What a resume must find unchanged: the base model and how it is taken over."""

    def describe(self, info: ModelInfo) -> ModelInfo:
        """The run's model as the data sets ask for it, changed to what this start makes of it."""

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Put weights into the fresh ``network`` of ``info``, and ``requires_grad_(False)`` on what is frozen."""
