"""A token that stops a training after so many iterations."""

from __future__ import annotations

from meduniseg_core.events import CancelToken, Event, Progress


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
