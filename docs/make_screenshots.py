"""The screenshots of the documentation: real images, the real viewer. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/make_screenshots.py

Only scikit-image's fundus photograph is shown: it may be passed on.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

IMAGES = Path(__file__).resolve().parent / "images"


def wait(until: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let the program work until something is so."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def main() -> None:
    """Segment the photograph in the viewer and keep what the screen shows."""
    os.environ["MEDUNISEG_HOME"] = tempfile.mkdtemp()  # as on a machine where nothing was done yet
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-meduniseg", "retina")
    _, panel = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    panel.form.choose(model="starter", modality="fundus", tasks=("disc_cup",))
    wait(lambda: "At most" in panel.hint.text())
    panel.run()
    wait(lambda: not panel.busy)
    viewer.scene.camera.center = (0, 640, 250)
    viewer.scene.camera.zoom = 1.4
    wait(lambda: False, 2)
    viewer.screenshot(str(IMAGES / "segment_panel.png"), canvas_only=False, flash=False)
    viewer.theme = "light"
    wait(lambda: False, 1)
    viewer.screenshot(str(IMAGES / "segment_panel_light.png"), canvas_only=False, flash=False)
    viewer.theme = "dark"
    panel.actions.correct()
    _, edit = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit", tabify=True)
    before = viewer.add_labels(viewer.layers[-1].data.copy(), name="before", visible=False)
    viewer.layers[-2].selected_label = 1
    edit.layer_box.set_layer(viewer.layers[-2])
    edit.amount.setValue(12.0)
    edit.do("grow")
    wait(lambda: not edit.busy)
    wait(lambda: False, 1)
    viewer.screenshot(str(IMAGES / "edit_panel.png"), canvas_only=False, flash=False)
    _, review = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Review", tabify=True)
    review.first.set_layer(before)
    review.second.set_layer(viewer.layers[-2])
    review.compare()
    wait(lambda: not review.busy)
    viewer.layers[-2].visible = False
    review.show_difference()
    wait(lambda: False, 1)
    viewer.screenshot(str(IMAGES / "review_panel.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
