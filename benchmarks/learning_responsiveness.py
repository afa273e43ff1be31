"""How long the viewer stands still while a model is learned beside it. Needs a screen, or

    xvfb-run -a -s "-screen 0 1280x1000x24" python benchmarks/learning_responsiveness.py

Six synthetic volumes are accepted into a collection, the Learn panel starts a fine-tuning of ``starter``, and while it
trains and is compared the slices of a volume are scrolled through, 20 a second. A timer of 5 ms in the GUI's thread
notes the gaps between its ticks; for comparison the same scrolling without a training.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from responsiveness import Gaps, until

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import Geometry, Image

SHAPE = (48, 96, 96)
ITERATIONS = 100


def volume(seed: int) -> tuple[Image, Image]:
    """A bright ball in noise, and its label map."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = rng.uniform((18, 36, 36), (30, 60, 60))
    inside = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 144
    image = Image((rng.normal(size=SHAPE) + 3 * inside).astype(np.float32)[None], Geometry(SHAPE, (2.0, 2.0, 2.0)))
    return image, image.with_array(inside[None].astype(np.uint8))


def scroll(viewer: napari.Viewer, seconds: float, done=lambda: False) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Scroll through the slices; the gaps in ms."""
    gaps, end, shown = Gaps(), time.monotonic() + seconds, 0
    while time.monotonic() < end and not done():
        viewer.dims.set_current_step(0, shown % SHAPE[0])
        shown += 1
        last = time.monotonic()
        while time.monotonic() - last < 0.05:
            QApplication.processEvents()
            time.sleep(0.001)
    return np.array(gaps.values)


def tell(what: str, values: np.ndarray) -> None:
    """One line."""
    print(
        f"{what}: median {np.median(values):.0f} ms, 99.9 % below {np.quantile(values, 0.999):.0f} ms, longest "
        f"{values.max():.0f} ms, {int((values > 100).sum())} of {len(values)} above 100 ms",
        flush=True,
    )


def main() -> None:
    """Accept, learn, measure."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDUNISEG_HOME"] = folder
        ledger = Ledger.create(
            Path(folder) / "corrections" / "ball", task="ball", modality="mri", classes=["ball"], channels=["MRI"]
        )
        for seed in range(6):
            ledger.accept(*volume(seed))
        viewer = napari.Viewer()
        viewer.window.resize(1280, 900)
        viewer.add_image(volume(0)[0].array[0], name="volume")
        _, learn = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Learn")
        until(lambda: learn.found is not None and not learn.busy and not learn.cases.busy)
        scroll(viewer, 3)
        tell("no training", scroll(viewer, 20))
        learn.budget.setItemData(0, replace(learn.budget.itemData(0), iterations=ITERATIONS, quick=False))
        start = time.perf_counter()
        learn.start()
        print(f"Start: {1000 * (time.perf_counter() - start):.0f} ms")
        values = scroll(viewer, 900, lambda: learn.gate_view.isVisibleTo(learn))
        print(f"training and comparison: {time.perf_counter() - start:.0f} s; {learn.gate_view.reason.text()}")
        tell("while it trained and was compared", values)
        viewer.close()


if __name__ == "__main__":
    main()
