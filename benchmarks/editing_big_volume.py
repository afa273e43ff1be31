"""How long the viewer stands still while a 512 x 512 x 400 label map with 14 classes is edited. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/editing_big_volume.py

Printed: for what happens at once, the time until the window answers again; for what is computed beside the GUI, the
time until it is done and the longest the window stood still meanwhile. The first opening of a panel in a session also
loads the libraries (PyTorch), which is printed apart. Under xvfb-run, Mesa draws in software.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

SHAPE, CLASSES, SCALE = (400, 512, 512), 14, (1.5, 0.8, 0.8)
LIMIT_MS = 100.0
_slowest: dict[str, float] = {}


def answered() -> None:
    """Let Qt do everything that waits."""
    QApplication.processEvents()


def stands_still(name: str, act: Callable[[], object], repeats: int = 3) -> None:
    """Time ``act`` and the drawing that follows."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        answered()
        times.append(1000 * (time.perf_counter() - start))
    _slowest[name] = max(times)
    print(f"{name:<34} {', '.join(f'{ms:.0f}' for ms in times)} ms", flush=True)


def beside(name: str, begin: Callable[[], object], busy: Callable[[], bool]) -> None:
    """Time work beside the GUI, and the longest round of Qt's events while it runs and when it arrives."""
    start = last = time.perf_counter()
    begin()
    longest, more = 0.0, 5
    while busy() or more:
        more = 5 if busy() else more - 1
        answered()
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        time.sleep(0.001)
    _slowest[name] = 1000 * longest
    print(f"{name:<34} {time.perf_counter() - start:.2f} s, still at most {1000 * longest:.0f} ms", flush=True)


def volume() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and boxes as organs."""
    image = np.random.default_rng(0).integers(-1000, 1000, SHAPE, dtype=np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    for k in range(1, CLASSES):
        labels[20 * k : 20 * k + 60, 30 * k : 30 * k + 60, 100:300] = k
    return image, labels


def main() -> None:
    """Open the volume, edit it, print."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    image, labels = volume()
    start = time.perf_counter()
    import napari_meduniseg.widgets.edit
    import napari_meduniseg.widgets.segment  # noqa: F401

    print(f"loading the libraries, once        {time.perf_counter() - start:.1f} s")
    viewer.add_image(image, scale=SCALE, units="mm")
    features = {"index": list(range(CLASSES)), "name": ["background", *(f"organ {k}" for k in range(1, CLASSES))]}
    layer = viewer.add_labels(labels, scale=SCALE, units="mm", features=features)
    viewer.dims.set_point(0, 60 * SCALE[0])
    answered()
    panels: list[object] = []

    def open_panel(name: str) -> None:
        panels.append(viewer.window.add_plugin_dock_widget("napari-meduniseg", name)[1])

    stands_still("opening Segment", lambda: open_panel("Segment"), 1)
    stands_still("opening Edit", lambda: open_panel("Edit"), 1)
    edit = panels[-1]
    beside("looking for labels without a name", lambda: None, lambda: edit.palette_table.busy)
    rows = iter(range(3))
    stands_still("switching the class", lambda: edit.palette_table.selectRow(next(rows)))
    stands_still("locking a class", lambda: edit.palette_table.set_locked(5, True), 1)
    layer.brush_size = 20
    stands_still("one brush stroke", lambda: layer.paint((60, 200, 200), 2), 1)
    stands_still("undo", layer.undo, 1)
    stands_still("one ball of 5 mm", lambda: edit.tools._paint_ball(layer, (90.0, 160.0, 160.0), False), 1)
    stands_still("undo of the ball", layer.undo, 1)
    layer.selected_label = 3
    for name in edit.buttons:
        beside(name, lambda name=name: edit.do(name), lambda: edit.busy)
    beside("keeping unfinished edits", edit.recovery.save_now, lambda: edit.recovery.busy)
    slow = {name: ms for name, ms in _slowest.items() if ms > LIMIT_MS}
    print(f"above {LIMIT_MS:.0f} ms: {', '.join(f'{name} ({ms:.0f})' for name, ms in slow.items()) or 'nothing'}")
    viewer.close()


if __name__ == "__main__":
    main()
