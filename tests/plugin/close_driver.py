"""A viewer in a process of its own, with a segmentation that runs and labels that are not saved, and its window closed.

``python close_driver.py MODEL_FILE HOW [ANSWER]``: HOW is ``button`` (the window's), ``menu`` (File > Close) or
``program`` (nobody is asked). The question is answered with ANSWER, *Close* or *Cancel*; after *Cancel* the program
closes. Prints what it saw, a line each; the exit code is what the test looks at.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import napari
import numpy as np
import torch
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from meduniseg_core.inference import Predictor
from meduniseg_core.weights import Registry

MODEL, HOW, ANSWER = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""
within = threading.Event()
kernels = torch.randn(64, 64, 3, 3, 3)


def slow(_self: Predictor, image: Any, _tasks: Any, **how: Any) -> Any:
    """As the network: in C++ nearly all the time, asking now and then whether it is to stop."""
    window = torch.randn(1, 64, 24, 64, 64)
    while True:
        within.set()
        torch.nn.functional.conv3d(window, kernels, padding=1)
        how["cancel"].raise_if_cancelled()


Registry().import_file(MODEL)
Predictor.segment = slow  # type: ignore[method-assign, assignment]
viewer = napari.Viewer()
viewer.add_image(np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32), units="mm", name="scan")
_, panel = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
labels = viewer.add_labels(np.zeros((8, 20, 20), np.uint8), units="mm", name="mine")
labels.data_setitem((np.array([1]), np.array([2]), np.array([3])), np.array([1], np.uint8))
panel.form.choose(model="tiny", modality="mri", tasks=("organ",))
panel.form.precision.setCurrentText("fp32")
panel.run()
window = viewer.window._qt_window


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
    """Once the run is within its C++ code."""
    if not within.is_set():
        QTimer.singleShot(100, close)
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
    """The window is still there, and so is the run."""
    print("STAYS", window.isVisible() and panel.busy, flush=True)
    viewer.close()


QTimer.singleShot(100, close)
napari.run()
print("ENDED", flush=True)
