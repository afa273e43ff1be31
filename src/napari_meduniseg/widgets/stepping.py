"""Large changes of a layer, a bounded part at a time: between the parts the window works."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qtpy.QtCore import QObject, QTimer


class Steps(QObject):
    """Runs one iterator at a time in the window's thread, a step for each turn of its event loop."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._steps: Iterator[int] | None = None
        self._then: Callable[[int], None] = lambda _total: None
        self._total = 0
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)

    @property
    def running(self) -> bool:
        """Whether there are steps left."""
        return self._steps is not None

    def run(self, steps: Iterator[int], then: Callable[[int], None]) -> None:
        """Begin; what was running is left as far as it came.

        Args:
            steps: Yields how much each step did.
            then: Called at the end with the sum.
        """
        self.stop()
        self._steps, self._then, self._total = steps, then, 0
        self._timer.start()

    def stop(self) -> None:
        """Do no further step; a generator is closed, so that what it opened is ended."""
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
