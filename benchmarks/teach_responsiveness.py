"""How long the viewer stands still while the panel Teach learns on a large volume. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/teach_responsiveness.py [--screenshots FOLDER]

A timer of 5 ms in the GUI's thread notes the gaps between its ticks: from Start on while the layers are added (beside
napari's own time for two empty labels layers of that size), from the first stroke until the whole volume is labelled
(with the network's features, computed once), at a second stroke (nothing new to compute but labels), and at its undo.
Then a click in Edit that removes, and one that grows; and the panel Planes, while the mouse moves, slices change and a
stroke is painted. On a busy machine the gaps hold time in which others had the
core; the second figure is the longest time that the GUI's thread itself computed without a tick.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from responsiveness import SCALE, SHAPE, Gaps, until

from napari_meduniseg.widgets.opening import open_panel

LIMIT = 100  # ms


def scan() -> np.ndarray:
    """A head with a bright ball in it, in air: 31 million voxels."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    head = ((y - 256) / 200) ** 2 + ((x - 256) / 150) ** 2 + 0 * z < 1
    ball = ((y - 230) / 60) ** 2 + ((x - 300) / 60) ** 2 + ((z - 60) / 24) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 20, SHAPE).astype(np.int16)
    return np.where(ball, 160, np.where(head, 40, -1000)).astype(np.int16) + noise


class Busy(Gaps):
    """Also the thread's own CPU time between ticks, in ms."""

    def __init__(self) -> None:
        self.computed: list[float] = []
        self._before = time.thread_time()
        super().__init__()

    def _tick(self) -> None:
        super()._tick()
        now = time.thread_time()
        self.computed.append(1000 * (now - self._before))
        self._before = now


class Watch:
    """Prints the longest gap of what is done within it."""

    def __init__(self, gaps: Busy, title: str) -> None:
        self._gaps, self._title = gaps, title

    def __enter__(self) -> None:
        QApplication.processEvents()
        self._first, self._began = len(self._gaps.values), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        QApplication.processEvents()
        values = np.array(self._gaps.values[self._first :] or [0.0])
        own = np.array(self._gaps.computed[self._first :] or [0.0])
        print(
            f"{self._title}: {time.perf_counter() - self._began:.1f} s, longest gap {values.max():.0f} ms "
            f"({int((values > LIMIT).sum())} above {LIMIT}), of the GUI's own work {own.max():.0f} ms "
            f"({int((own > LIMIT).sum())} above); load {os.getloadavg()[0]:.0f}",
            flush=True,
        )


def main() -> None:
    """Teach, undo, click."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--screenshots", type=Path)
    folder = parser.parse_args().screenshots
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    image = viewer.add_image(scan(), scale=SCALE, units="mm", name="ct", contrast_limits=(-100, 300))
    viewer.dims.set_point(0, 60 * SCALE[0])
    _, panel = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Teach")
    gaps = Busy()
    until(lambda: len(gaps.values) > 20)

    def shoot(name: str) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for theme in ("dark", "light"):
                viewer.theme = theme
                until_quiet()
                viewer.window.screenshot(str(folder / f"{name}_{theme}.png"), canvas_only=False, flash=False)
            viewer.theme = "dark"
            until_quiet()

    def until_quiet(seconds: float = 0.5) -> None:
        end = time.perf_counter() + seconds
        until(lambda: time.perf_counter() > end)

    def stroke(value: int, row: int, first: int, last: int) -> None:
        panel.class_box.setCurrentIndex(panel.class_box.findData(value))
        where = np.full(last - first, 60), np.full(last - first, row), np.arange(first, last)
        panel.strokes.data_setitem(where, value)

    with Watch(gaps, "napari alone, two labels layers"):
        for _ in range(2):
            viewer.layers.remove(viewer.add_labels(np.zeros(SHAPE, np.uint8), scale=SCALE, units="mm"))
            QApplication.processEvents()
    with Watch(gaps, "Start"):
        panel.start_button.click()
        until(lambda: not panel.starting)
    with Watch(gaps, "first strokes, with features"):
        stroke(2, 230, 260, 340)
        until(lambda: not panel.learning)
        stroke(1, 400, 150, 350)
        until(lambda: not panel.learning)
    print(panel.said.text())
    shoot("teach")
    with Watch(gaps, "another stroke"):
        stroke(1, 100, 200, 300)
        until(lambda: not panel.learning)
    print(panel.said.text())
    with Watch(gaps, "undo"):
        panel.undo_button.click()
        until(lambda: not panel.learning)
    print(panel.said.text())
    _, edit = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    until(lambda: not edit.busy)
    edit._current.choose_labels(panel.taught)
    panel.taught.selected_label = 1
    with Watch(gaps, "click tool on"):
        edit.clicks.setChecked(True)
        until(lambda: not edit.busy)
    print(edit.said.text())
    places = [(60, 230, 300), (60, 230, 300)]
    for title, place in zip(("click: part removed", "click: spot grown"), places, strict=True):
        with Watch(gaps, title):
            edit.clicks.clicked_at.emit(tuple(image.data_to_world(place)), False)
            until(lambda: not edit.busy)
        print(edit.said.text())
    shoot("edit")
    planes = open_panel(viewer, "Planes")
    until(lambda: planes.views[0].plane is not None)
    with Watch(gaps, "Planes: mouse"):
        for column in range(100, 400, 5):
            viewer.cursor.position = image.data_to_world((60, 230, column))
            until_quiet(0.02)
    with Watch(gaps, "Planes: slices"):
        for depth in range(40, 70):
            viewer.dims.set_point(0, depth * SCALE[0])
            until_quiet(0.05)
    with Watch(gaps, "Planes: a stroke"):
        panel.taught.paint((60, 300, 300), 1)
        until_quiet()
    shoot("planes")
    viewer.close()


if __name__ == "__main__":
    main()
