"""Stops a training after so many iterations, and sees that it then goes on as the one that was left alone."""

from __future__ import annotations

import pytest
import torch

from meduniseg_core.errors import CancelledError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.weights import Model, load_model


class StopAfter(CancelToken):
    """Cancels when the training loop (to which `listen` is given as the sink of events) reports iteration n."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.left = iterations

    def listen(self, event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "train":
            self.left -= 1
            if self.left == 0:
                self.cancel()


def trained_the_same_when_stopped(run: TrainingConfig) -> Model:
    """The model of a training, once a run of it that was stopped and resumed has given the same weights bit for bit."""
    whole = train(run)
    stopped = run.model_copy(update={"output": run.output.parent / "stopped"})
    token = StopAfter(2)
    with pytest.raises(CancelledError):
        train(stopped, events=token.listen, cancel=token)
    resumed = train(stopped, resume=True)
    model, other = load_model(whole.model), load_model(resumed.model)
    first, second = model.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[weight], second[weight]) for weight in first)
    return model
