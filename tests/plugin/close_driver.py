"""A viewer in a process of its own, with work that runs and labels that are not saved, and its window closed.

``python close_driver.py MODEL_FILE WHAT HOW [ANSWER]``. WHAT runs: ``run`` (a segmentation within the network),
``preparing`` (a segmentation whose large volume is being resampled), ``batch`` or ``learn`` (a fine-tuning that Learn
started, while it preprocesses or trains). HOW: ``button`` (the window's), ``menu`` (File > Close) or ``program``
(nobody is asked). The question is answered with ANSWER, *Close* or *Cancel*; after *Cancel* the program closes. Prints
what it saw, a line each; the exit code is what the test looks at.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import torch
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

import meduniseg_core.inference.predictor as predicting
from meduniseg_core.adaptation.runs import runs
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import Registry

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))
from small_inputs import write_dataset, write_volume

MODEL, WHAT, HOW, ANSWER = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else ""
FOLDER = Path(MODEL).parent
within = threading.Event()


def slow(_self: Predictor, image: Any, _tasks: Any, **how: Any) -> Any:
    """As the network: in C++ nearly all the time, asking now and then whether it is to stop."""
    kernels, window = torch.randn(64, 64, 3, 3, 3), torch.randn(1, 64, 24, 64, 64)
    while True:
        within.set()
        torch.nn.functional.conv3d(window, kernels, padding=1)
        how["cancel"].raise_if_cancelled()


def dock(name: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-meduniseg", name)[1]


def start_run() -> Callable[[], bool]:
    """The Segment panel; ``run`` with a network that never ends."""
    array = np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32)
    if WHAT == "run":
        Predictor.segment = slow  # type: ignore[method-assign, assignment]
    else:
        array = np.zeros((300, 300, 300), np.float32)
        array[::2] = 1
        real = predicting.preprocess

        def telling(*arguments: Any, **options: Any) -> Any:
            within.set()
            prepared = real(*arguments, **options)
            print("PREPARED", flush=True)
            return prepared

        predicting.preprocess = telling
    viewer.add_image(array, scale=(0.7,) * 3, units="mm", name="scan", contrast_limits=(-2, 2))
    panel = dock("Segment")
    panel.form.choose(model="tiny", modality="mri", tasks=("organ",))
    panel.form.compute.precision.value = "fp32"
    panel.run()
    running.append(lambda: panel.busy)
    return within.is_set


def start_batch() -> Callable[[], bool]:
    """The Batch panel: a case that is quickly done and one that is not."""
    cases = FOLDER / "cases"
    cases.mkdir()
    write_volume(cases / "a.nii.gz")
    write_volume(cases / "b.nii.gz", (160, 256, 256))
    panel = dock("Batch")
    panel.model.setCurrentText("tiny")
    panel.task.setCurrentText("organ")
    panel.folder.setText(str(cases))
    panel.output.setText(str(FOLDER / "out"))
    panel.tta.setChecked(True)
    panel.run()
    running.append(lambda: panel.busy)
    return lambda: any("✓ a" in line for line in panel.queue.lines())


def start_learn() -> Callable[[], bool]:
    """The Learn panel, with a data set."""
    data = write_dataset(FOLDER / "Dataset001_blob", [f"case{number}" for number in range(5)])
    panel = dock("Learn")
    panel.choose_data(data)
    wait(lambda: panel.found is not None and panel.found.folder == data and not panel.busy)
    panel.name.setText("blobs")
    panel.device.setCurrentText("cpu")
    panel.start_button.click()
    print("SAID", panel.said.text(), flush=True)
    running.append(lambda: any(run.standing().phase == "running" for run in runs()))
    return running[0]


def wait(until: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def press_close_button(number: int) -> None:
    """What a window manager sends when its close button is pressed (X11: WM_DELETE_WINDOW); Qt's own way to close a
    window looks like a program's."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    message = (ctypes.c_long * 24)()  # an XEvent: type, serial, send_event, display, window, message_type, format, data
    message[0], message[4] = 33, number  # ClientMessage
    message[5] = x11.XInternAtom(display, b"WM_PROTOCOLS", 0)
    message[6] = 32
    message[7] = x11.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
    x11.XSendEvent(display, ctypes.c_ulong(number), 0, ctypes.c_long(0), message)
    x11.XFlush(display)


def close() -> None:
    """Once the work is where it is wanted."""
    if not ready():
        QTimer.singleShot(50, close)
        return
    QTimer.singleShot(2000, answer)
    if HOW == "button":
        press_close_button(int(window.winId()))
    elif HOW == "menu":
        window.close(quit_app=False, confirm_need=True)
    else:
        viewer.close()


def answer() -> None:
    """Press the button of the question, if one is asked."""
    box = QApplication.activeModalWidget()
    if not isinstance(box, QMessageBox):
        print("QUESTION", None if box is None else type(box).__name__, flush=True)
        return
    print("QUESTION", box.text().replace("\n", " "), flush=True)
    next(button for button in box.buttons() if button.text().replace("&", "") == ANSWER).click()
    if ANSWER == "Cancel":
        QTimer.singleShot(300, after_cancel)


def after_cancel() -> None:
    """The window is still there, and so is the work."""
    print("STAYS", window.isVisible() and running[0](), flush=True)
    viewer.close()


Registry().import_file(MODEL)
viewer = napari.Viewer()
running: list[Callable[[], bool]] = []
ready = {"run": start_run, "preparing": start_run, "batch": start_batch, "learn": start_learn}[WHAT]()
labels = viewer.add_labels(np.zeros((8, 20, 20), np.uint8), units="mm", name="mine")
labels.data_setitem((np.array([1]), np.array([2]), np.array([3])), np.array([1], np.uint8))
window = viewer.window._qt_window
QTimer.singleShot(100, close)
napari.run()
print("ENDED", flush=True)
