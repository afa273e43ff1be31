"""Whatever goes wrong inside a job: a sentence, a usable Run button, nothing half-made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_inputs import write_volume

from meduniseg_core.events import CancelToken
from napari_meduniseg._jobs import BackgroundJob

ERRORS: list[tuple[Callable[[], BaseException], str]] = [
    (lambda: RuntimeError("shapes do not fit"), "RuntimeError: shapes do not fit"),
    (lambda: torch.OutOfMemoryError("CUDA out of memory"), "memory"),
    (lambda: MemoryError(), "memory"),
    (lambda: OSError(28, "No space left on device", "/somewhere/file"), "/somewhere/file"),
    (lambda: KeyError("task"), "KeyError"),
]


@pytest.fixture
def panel(gui: Any, tmp_path: Path) -> Any:
    gui.open(str(write_volume(tmp_path / "mr.nii.gz")), plugin="napari-meduniseg")
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    found.form.choose(model="tiny", modality="mri", tasks=("organ",))
    found.form.compute.precision.value = "fp32"
    return found


@pytest.mark.parametrize(("make", "said"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_error_in_the_network_is_one_sentence_and_run_works_again(
    gui: Any, panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException], said: str
) -> None:
    from meduniseg_core.inference import Predictor

    def broken(*_arguments: Any, **_options: Any) -> Any:
        raise make()

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "segment", broken)
        panel.run()
        qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    assert said in panel.said.text() and "Traceback" not in panel.said.text()
    assert len(gui.layers) == 1 and panel.run_button.isEnabled() and not panel.cancel_button.isEnabled()
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    assert len(gui.layers) == 2 and "Done" in panel.said.text()


def test_a_viewer_closed_in_the_middle_of_a_job_ends_it(
    gui: Any, panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meduniseg_core.inference import Predictor

    began, ended = threading.Event(), threading.Event()

    def endless(*_arguments: Any, cancel: CancelToken, **_options: Any) -> Any:
        began.set()
        try:
            while True:
                cancel.raise_if_cancelled()
                threading.Event().wait(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(Predictor, "segment", endless)
    panel.run()
    qtbot.waitUntil(began.is_set, timeout=60_000)
    gui.close()
    qtbot.waitUntil(ended.is_set, timeout=10_000)


def test_a_second_run_makes_a_new_layer_and_undo_never_writes_what_it_found_before(
    gui: Any, panel: Any, qtbot: Any
) -> None:
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    edited = gui.layers[-1]
    found = edited.data.copy()
    edited.selected_label, edited.brush_size = 1, 5
    edited.paint((10, 5, 5), 1)
    corrected = edited.data.copy()
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    fresh = gui.layers[-1]
    assert fresh is not edited and (edited.data == corrected).all() and (fresh.data == found).all()
    fresh.undo()
    assert (fresh.data == found).all()
    edited.undo()
    assert (edited.data == found).all() and (fresh.data == found).all()


def test_a_job_whose_owner_is_gone_ends_quietly() -> None:
    job = BackgroundJob(lambda _events, _cancel: 1)
    job.start()
    assert job.wait(10)


def test_the_table_follows_corrections(gui: Any, panel: Any, qtbot: Any) -> None:
    panel.run()
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    labels, table = gui.layers[-1], panel.table.table
    counted = int(table.item(0, 1).text().replace(",", ""))
    assert counted == int((labels.data == 1).sum())
    labels.data_setitem(tuple(index[:50] for index in labels.data.nonzero()), 0)
    qtbot.waitUntil(lambda: int(table.item(0, 1).text().replace(",", "")) == counted - 50, timeout=10_000)
    labels.data_setitem(tuple(index[:10] for index in labels.data.nonzero()), 7)  # a class of the user's own
    qtbot.waitUntil(lambda: int(table.item(0, 1).text().replace(",", "")) == counted - 60, timeout=10_000)
