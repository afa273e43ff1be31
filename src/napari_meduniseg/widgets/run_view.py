"""A training while it runs: curves, time left, pause, stop, log. The process is watched through its run's folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout

from meduniseg_core.adaptation.run import Run, RunStatus
from meduniseg_core.images.palette import class_colour
from napari_meduniseg._durations import duration
from napari_meduniseg.widgets.message import Sentence, keep_room
from napari_meduniseg.widgets.working import Working

_EVERY_MS = 1000
_LOSS = "#3ca0eb"
_STAGES = {
    "train": "Training",
    "gate": "Comparing with the base",
    "preprocess": "Preparing the cases",
    "statistics": "Measuring the cases",
    "fingerprint": "Looking at the cases",
    "segment": "Segmenting held-back cases",
}


class RunView(Working, QGroupBox):
    """``changed`` is emitted when the run enters another phase."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Training")
        self._run: Run | None = None
        self._phase: str | None = None
        self._shown_epochs = -1
        self.state = Sentence(3)
        self.progress = QProgressBar()
        self.progress.setToolTip("What the training is doing, and how long it will still take.")
        keep_room(self.progress)
        self.loss = _plot("loss")
        self.dice = _plot("Dice, held-back cases")
        self.dice.setYRange(0, 1)
        self.dice.addLegend(offset=(5, -5), labelTextSize="8pt")
        self.pause_button, self.stop_button = QPushButton("Pause"), QPushButton("Stop, keep the best")
        self.log_button = QPushButton("Log")
        self.pause_button.setToolTip(
            "End the process and keep all that was trained; Resume continues from there, even another day."
        )
        self.stop_button.setToolTip("Stop training: the best state so far becomes the model, and is compared.")
        self.log_button.setToolTip("Open the training's folder: log, split, saved states.")
        layout = QVBoxLayout(self)
        layout.addWidget(self.state)
        layout.addWidget(self.progress)
        row = QHBoxLayout()
        for button in (self.pause_button, self.stop_button, self.log_button):
            row.addWidget(button)
        layout.addLayout(row)
        layout.addWidget(self.loss)
        layout.addWidget(self.dice)  # below the buttons: it comes with the first Dice
        self._timer = QTimer(self)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self.look)
        self.pause_button.clicked.connect(self.pause_or_resume)
        self.stop_button.clicked.connect(self.stop)
        self.log_button.clicked.connect(self._open_folder)
        self.hide()

    def show_run(self, run: Run | None) -> None:
        """Follow this run."""
        self._run, self._phase, self._shown_epochs = run, None, -1
        self.setVisible(run is not None)
        if run is None:
            self._timer.stop()
            return
        self.setTitle(f"Training {run.job.name}")
        self.setToolTip(run.command)
        self.look()
        self._timer.start()

    def look(self) -> None:
        """Look at the run's state."""
        if self._run is None or self.busy:
            return
        standing = self._run.standing()
        log = self._run.log()
        self._show(standing, log)
        self._draw(log)
        if standing.phase != "running":
            self._timer.stop()
        if standing.phase != self._phase:
            self._phase = standing.phase
            self.changed.emit()

    def pause_or_resume(self) -> None:
        """End the process, or continue from its last checkpoint."""
        run = self._run
        if run is not None:  # what the button says is done, however the run stands by now
            self._do(run.stop if self._phase == "running" else run.start, "Please wait ...")

    def stop(self) -> None:
        """End the training; the best state so far becomes the model."""
        run = self._run
        if run is None:
            return

        def end() -> None:
            run.stop()
            run.start(finish=True)

        self._do(end, "Stopping ...")

    def _do(self, work: Callable[[], None], text: str) -> None:
        if not self.start_job(lambda _events, _cancel: work(), lambda _: self._done(None), self._done):
            return
        for button in (self.pause_button, self.stop_button):
            button.setEnabled(False)
        self.state.setText(text)

    def _done(self, trouble: str | None) -> None:
        self._timer.start()
        self.look()
        if trouble is not None:
            self.state.setText(trouble)

    def _show(self, standing: RunStatus, log: list[dict[str, Any]]) -> None:
        running = standing.phase == "running"
        best = _best(log)
        words = {
            "running": "It goes on when napari is closed.",
            "stopped": standing.trouble
            or ("Paused." if standing.resumable else "It ended before anything was trained; Resume starts it again."),
            "failed": f"It failed: {standing.trouble}",
            "finished": "Finished.",
        }
        self.state.setText(f"{words[standing.phase]} {best}".strip())
        self.progress.setVisible(running)
        self.pause_button.setText("Pause" if running else "Resume")
        self.pause_button.setEnabled(running or standing.phase in ("stopped", "failed"))
        assert self._run is not None
        self.stop_button.setEnabled(standing.phase != "finished" and self._run.has_checkpoint)
        if standing.progress is None:
            self.progress.setRange(0, 0)
            return
        stage, done, total, left = standing.progress
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        rest = "" if left is None else f", {duration(left)} left"
        name = _STAGES.get(stage.split()[0], stage)  # some name their task, too
        self.progress.setFormat(f"{name}: %p %{rest}")

    def _draw(self, log: list[dict[str, Any]]) -> None:
        if len(log) == self._shown_epochs:
            return
        self._shown_epochs = len(log)
        iterations = [line["iteration"] for line in log]
        self.loss.clear()
        few = len(log) < 30
        self.loss.plot(iterations, [line["loss"] for line in log], pen=pg.mkPen(_LOSS, width=2),
                       symbol="o" if few else None, symbolSize=4)  # fmt: skip
        self.dice.clear()
        checked = [line for line in log if "class_dice" in line]
        classes = next(iter(checked[-1]["class_dice"].values())) if checked else {}
        self.dice.setVisible(bool(classes))
        for position, name in enumerate(classes):
            points = [
                (line["iteration"], next(iter(line["class_dice"].values())).get(name, float("nan"))) for line in checked
            ]
            colour = class_colour(position + 1)
            self.dice.plot([x for x, _ in points], [y for _, y in points], name=name,
                           pen=pg.mkPen(colour, width=2), symbol="o", symbolSize=4, symbolBrush=colour)  # fmt: skip

    def _open_folder(self) -> None:
        if self._run is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._run.folder)))


def _best(log: list[dict[str, Any]]) -> str:
    scores = [(line["mean_dice"], line["iteration"]) for line in log if "mean_dice" in line]
    if not scores:
        return ""
    dice, step = max(scores)
    return f"Best Dice on the held-back cases so far: {dice:.3f} (after {step:,} steps)."


def _plot(title: str) -> Any:
    plot = pg.PlotWidget()
    plot.setTitle(title, size="9pt")
    plot.setLabel("bottom", "steps")
    plot.setFixedHeight(150)
    plot.setMouseEnabled(x=False, y=False)
    plot.hideButtons()
    plot.setMenuEnabled(False)
    return plot
