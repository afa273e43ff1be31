"""How long the viewer stands still while the shipped model segments a 512 x 512 x 120 CT. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/responsiveness.py

A timer of 5 ms in the GUI's thread notes the gaps between its ticks while the model is loaded and windows are computed;
apart from that, how long it takes to show the result as a layer, beside napari's own time for an empty labels layer of
that size (the first one in a session also compiles its shaders). Then a run is cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

SHAPE, SCALE = (120, 512, 512), (2.5, 0.9, 0.9)


def body() -> np.ndarray:
    """An ellipse of soft tissue with noise, in air."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((y - 256) / 200) ** 2 + ((x - 256) / 150) ** 2 + 0 * z < 1
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    return np.where(inside, 40, -1000).astype(np.int16) + noise.astype(np.int16)


class Gaps:
    """The gaps between the ticks of a timer in the GUI's thread, in ms."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.values.append(1000 * (now - self._last))
        self._last = now


def until(done: Callable[[], bool]) -> None:
    """Let Qt work until something is so."""
    while not done():
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    """Segment, measure, cancel, measure."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(body(), scale=SCALE, units="mm", name="ct")
    _, panel = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    panel.form.choose(model="starter", modality="ct", tasks=("head_neck_organs",))
    until(lambda: "At most" in panel.said.text())
    for which in ("first", "second"):
        start = time.perf_counter()
        viewer.layers.remove(viewer.add_labels(np.zeros(SHAPE, np.uint8), scale=SCALE, units="mm"))
        QApplication.processEvents()
        print(f"napari alone, its {which} labels layer: {1000 * (time.perf_counter() - start):.0f} ms")
    gaps, arrived = Gaps(), []
    viewer.layers.events.inserting.connect(lambda: arrived.append((len(gaps.values), time.perf_counter())))
    start = time.perf_counter()
    panel.run()
    until(lambda: not panel.busy)
    ticks, since = arrived[0]
    QApplication.processEvents()
    values = np.array(gaps.values[:ticks])
    print(
        f"while it ran: {since - start:.1f} s, median {np.median(values):.0f} ms, longest {values.max():.0f} ms", end=""
    )
    print(f" (wanted: at most 100), {int((values > 100).sum())} above")
    print(f"showing the result: {1000 * (time.perf_counter() - since):.0f} ms")
    print(panel.said.text())

    panel.run()
    until(lambda: panel.progress.value() > 0 or not panel.busy)
    start = time.perf_counter()
    panel.cancel()
    until(lambda: not panel.busy)
    print(f"Cancel: {1000 * (time.perf_counter() - start):.0f} ms until Run can be pressed again; {panel.said.text()}")
    viewer.close()


if __name__ == "__main__":
    main()
