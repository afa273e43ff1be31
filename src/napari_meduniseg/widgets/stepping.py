"""Large changes of a layer in small steps, between which the window stays responsive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qtpy.QtCore import QObject, QTimer


class Steps(QObject):
    """Runs one iterator at a time in the window's thread, one step for each turn of the event loop."""

    def __init__(self, parent: QObject, pause: int = 0) -> None:
        """``pause``: ms between two steps, in which what the window draws and other timers have their turn."""
        super().__init__(parent)
        self._steps: Iterator[int] | None = None
        self._then: Callable[[int], None] = lambda _total: None
        self._total = 0
        self._timer = QTimer(self)
        self._timer.setInterval(pause)
        self._timer.timeout.connect(self._step)

    @property
    def running(self) -> bool:
        """Whether there are steps left."""
        return self._steps is not None

    def run(self, steps: Iterator[int], then: Callable[[int], None]) -> None:
        """Begin. An iterator that is running is stopped; the steps that it has made stay.

        Args:
            steps: Yields the amount of each step.
            then: Called at the end with the sum.
        """
        self.stop()
        self._steps, self._then, self._total = steps, then, 0
        self._timer.start()

    def stop(self) -> None:
        """Make no further step; a generator is closed, so that its ``finally`` and ``with`` blocks end."""
        self._timer.stop()
        steps, self._steps = self._steps, None
        close = getattr(steps, "close", None)
        if close is not None:
            close()

    def _step(self) -> None:
        if self._steps is None:
            return
        count = next(self._steps, None)
        if count is None:
            self.stop()
            self._then(self._total)
        else:
            self._total += count
