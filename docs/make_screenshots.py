"""The screenshots of the documentation: real images, the real viewer. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/make_screenshots.py
    xvfb-run -a -s "-screen 0 1280x800x24" python docs/make_screenshots.py learn

Only scikit-image's fundus photograph is shown: it may be passed on.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from PIL import Image as Picture
from qtpy.QtWidgets import QApplication, QScrollArea
from skimage.data import retina

from napari_meduniseg.widgets.opening import open_panel

IMAGES = Path(__file__).resolve().parent / "images"


def wait(until: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let the program work until something is so."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def keep(viewer: napari.Viewer, name: str) -> None:
    """What the window shows, in 256 colours: a third of the size, and nobody sees it."""
    shown = viewer.screenshot(canvas_only=False, flash=False)
    Picture.fromarray(shown[..., :3]).quantize(256, method=Picture.Quantize.MAXCOVERAGE).save(
        IMAGES / f"{name}.png", optimize=True
    )


def main() -> None:
    """Segment the photograph in the viewer and keep what the screen shows."""
    os.environ["MEDUNISEG_HOME"] = tempfile.mkdtemp()  # as on a machine where nothing was done yet
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-meduniseg", "retina")
    panel = open_panel(viewer, "Segment")
    panel.form.choose(model="starter", modality="fundus", tasks=("disc_cup",))
    wait(lambda: "Classes:" in panel.said.text())
    panel.run()
    wait(lambda: not panel.busy)
    viewer.scene.camera.center = (0, 640, 250)
    viewer.scene.camera.zoom = 1.4
    wait(lambda: False, 2)
    keep(viewer, "segment_panel")
    viewer.theme = "light"
    wait(lambda: False, 1)
    keep(viewer, "segment_panel_light")
    viewer.theme = "dark"
    panel.result_actions.correct()
    edit = open_panel(viewer, "Edit")
    before = viewer.add_labels(viewer.layers[-1].data.copy(), name="before", visible=False)
    viewer.layers[-2].selected_label = 2
    edit.layer_box.set_layer(viewer.layers[-2])
    edit.amount.setValue(12.0)
    edit.do("grow")
    wait(lambda: not edit.busy)
    wait(lambda: False, 1)
    keep(viewer, "edit_panel")
    review = open_panel(viewer, "Review")
    review.first.set_layer(before)
    review.second.set_layer(viewer.layers[-2])
    review.compare()
    wait(lambda: not review.busy)
    viewer.layers[-2].visible = False
    review.show_difference()
    wait(lambda: False, 1)
    keep(viewer, "review_panel")
    viewer.close()


def learn() -> None:
    """Accept the photograph, and it turned, with the disc a little larger than predicted; learn from that."""
    os.environ["MEDUNISEG_HOME"] = tempfile.mkdtemp()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    panel = open_panel(viewer, "Segment")
    edit = open_panel(viewer, "Edit")
    photograph = retina()
    for turns in range(4):
        for layer in viewer.layers:
            layer.visible = False
        viewer.add_image(
            np.ascontiguousarray(np.rot90(photograph, turns)), name=f"eye turned by {90 * turns}", rgb=True
        )
        panel.form.image.set_layer(viewer.layers[-1])
        panel.form.choose(model="starter", modality="fundus", tasks=("disc_cup",))
        panel.run()
        wait(lambda: not panel.busy)
        edit.layer_box.set_layer(viewer.layers[-1])
        viewer.layers[-1].selected_label = 2
        edit.amount.setValue(12.0)
        edit.do("grow")
        wait(lambda: not edit.busy and not edit.accepting.busy)
        edit.accepting.patient.setText(f"eye {turns}")
        edit.accepting.accept()
        wait(lambda: not edit.accepting.busy)
    found = open_panel(viewer, "Learn")
    found.parentWidget().raise_()
    wait(lambda: found.found is not None and not found.busy and not found.cases.busy)
    found.start()
    wait(lambda: found.gate_view.isVisibleTo(found), 1800)
    area = found.findChild(QScrollArea)
    wait(lambda: False, 1)
    keep(viewer, "learn_panel")
    area.ensureWidgetVisible(found.gate_view.report_button)
    wait(lambda: False, 1)
    keep(viewer, "gate_panel")
    viewer.close()


if __name__ == "__main__":
    learn() if sys.argv[1:] == ["learn"] else main()
