"""OpenGL objects of a removed layer are deleted in the canvas's context; in another one the driver ends the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qt_waiting import wait_for
from qtpy.QtGui import QOpenGLContext
from vispy.gloo.glir import GlirProgram

from napari_meduniseg.widgets.opening import open_panel


def test_opening_one_case_after_another_deletes_in_the_canvas_s_context(
    gui_screen: None, tiny_home: Any, make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[object] = []
    drawn: list[object] = []
    drawn_programs: list[int] = []
    draw, delete = GlirProgram.draw, GlirProgram.delete

    def record(program: Any) -> None:
        contexts.append(QOpenGLContext.currentContext())
        delete(program)

    def note(program: Any, *arguments: Any) -> None:
        drawn.append(QOpenGLContext.currentContext())
        drawn_programs.append(program.id)
        draw(program, *arguments)

    monkeypatch.setattr(GlirProgram, "draw", note)
    viewer = make_napari_viewer(show=True)
    open_panel(viewer, "Segment")
    image = viewer.add_image(np.random.default_rng(0).normal(size=(4, 16, 16)))
    viewer.add_labels(np.eye(16, dtype=np.uint8)[None].repeat(4, axis=0))
    wait_for(lambda: len(set(drawn_programs)) >= 2, 30)
    monkeypatch.setattr(GlirProgram, "delete", record)
    viewer.layers.remove(image)
    assert contexts and set(contexts) == {drawn[-1]}
    before = len(drawn)
    viewer.add_image(np.ones((4, 16, 16)))
    wait_for(lambda: len(drawn) >= before + 2, 30)  # the driver would have ended the program
