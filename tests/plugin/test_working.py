"""Work that widgets have done in threads: one of a kind, answers that are wanted, nothing kept when it has ended."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name
from qtpy.QtCore import QObject

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken
from napari_meduniseg import _jobs
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.working import Working


class Owner(Working, QObject):
    """What widgets are: a Qt object that has work done."""


@pytest.fixture
def owner(qapp: Any) -> Owner:
    return Owner()


def until_let(gate: threading.Event, answer: Any) -> Any:
    def work(_events: Any, cancel: CancelToken) -> Any:
        while not gate.wait(0.01):
            cancel.raise_if_cancelled()
        return answer

    return work


def test_one_of_a_kind_is_done_at_a_time_and_kinds_know_nothing_of_each_other(owner: Owner, qtbot: Any) -> None:
    gate, found = threading.Event(), []
    assert owner.start_job(until_let(gate, "one"), found.append)
    assert not owner.start_job(until_let(gate, "two"), found.append)
    assert owner.start_job(until_let(gate, "look"), found.append, kind="look")
    assert owner.busy and owner.does("") and owner.does("look") and not owner.does("other")
    gate.set()
    qtbot.waitUntil(lambda: not owner.busy)
    assert sorted(found) == ["look", "one"]


def test_an_answer_that_is_wanted_no_more_is_not_heard_and_its_work_is_stopped(owner: Owner, qtbot: Any) -> None:
    gate, heard, stopped = threading.Event(), [], threading.Event()

    def old(events: Any, cancel: CancelToken) -> None:
        gate.wait()
        events("late")
        if cancel.cancelled:
            stopped.set()

    owner.start_job(old, heard.append, heard.append, event=heard.append)
    assert owner.start_job(until_let(gate, "new"), heard.append, anew=True)
    gate.set()
    qtbot.waitUntil(lambda: not owner.busy)
    assert stopped.wait(10)
    qtbot.wait(50)
    assert heard == ["new"]
    owner.start_job(until_let(gate, "dropped"), heard.append)
    owner.drop_job()
    assert not owner.busy
    qtbot.wait(50)
    assert heard == ["new"]


def test_events_come_before_the_answer_and_errors_as_sentences(owner: Owner, qtbot: Any) -> None:
    said: list[Any] = []

    def work(events: Any, _cancel: CancelToken) -> str:
        events("half")
        return "whole"

    def fail(error: Exception) -> Any:
        def failing(_events: Any, _cancel: CancelToken) -> None:
            raise error

        return failing

    owner.start_job(work, said.append, event=said.append)
    qtbot.waitUntil(lambda: not owner.busy)
    for error in (BadInputError("scan.nii is broken."), OSError(28, "No space left", "/there"), KeyError("task")):
        assert owner.start_job(fail(error), said.append, said.append)
        qtbot.waitUntil(lambda: not owner.busy)
    assert said[:3] == ["half", "whole", "scan.nii is broken."]
    assert said[3] == "/there: No space left; choose another place, or free some space."
    assert "KeyError" in said[4] and len(said) == 5
    assert owner.start_job(fail(KeyError("nobody listens")), said.append)
    qtbot.waitUntil(lambda: not owner.busy)


@pytest.mark.parametrize("told", [False, True])
def test_work_that_is_stopped_says_so(owner: Owner, qtbot: Any, told: bool) -> None:
    said: list[str] = []
    cancelled = (lambda: said.append("nothing was changed")) if told else None
    assert not owner.cancel_job()
    owner.start_job(until_let(threading.Event(), 1), said.append, said.append, cancelled=cancelled)  # type: ignore[arg-type]
    assert owner.cancel_job() and owner.busy  # until it has stopped
    qtbot.waitUntil(lambda: not owner.busy)
    assert said == (["nothing was changed"] if told else ["Stopped."])


def test_what_was_worked_on_is_let_go_when_it_is_done(owner: Owner, qtbot: Any) -> None:
    class Volume:
        pass

    volume = Volume()
    gone = weakref.ref(volume)

    def begin(about: Volume) -> None:
        owner.start_job(lambda _events, _cancel: id(about), lambda _: vars(about))

    begin(volume)
    del volume
    qtbot.waitUntil(lambda: not owner.busy)

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    qtbot.waitUntil(is_gone, timeout=5_000)


def test_work_that_ends_before_start_returns_is_not_remembered_as_running(qapp: Any) -> None:
    job = _jobs.BackgroundJob(lambda _events, _cancel: None)
    job._thread.start = job._thread.run  # type: ignore[method-assign]
    job.start()
    assert job._record not in _jobs._RUNNING


def test_who_ends_waits_for_what_is_written(owner: Owner) -> None:
    written = threading.Event()

    def write(_events: Any, _cancel: CancelToken) -> None:
        threading.Event().wait(0.2)
        written.set()

    owner.start_job(write, lambda _: None)
    owner.finish_job(30)
    assert written.is_set() and not owner.busy


def test_every_panel_of_the_manifest_stands_on_the_base() -> None:
    manifest = PluginManifest.from_distribution("napari-meduniseg")
    names = {command.id: command.python_name for command in manifest.contributions.commands or ()}
    panels = [import_python_name(names[widget.command]) for widget in manifest.contributions.widgets or ()]
    assert len(panels) == 12 and all(issubclass(panel, Panel) for panel in panels)


def test_what_fails_in_a_panel_is_said_and_ends_there(qtbot: Any, tiny_home: Any) -> None:
    panel = Panel(ViewerModel())
    qtbot.addWidget(panel)
    done = []
    for error, said in (
        (BadInputError("scan.nii is broken; choose another."), "scan.nii is broken; choose another."),
        (OSError(28, "No space left", "/there"), "/there: No space left; choose another place, or free some space."),
    ):
        with panel.saying_failures():
            done.append("begun")
            raise error
        assert panel.said.text() == said and panel.said.styleSheet()
        panel.say("Well again.")
        assert panel.said.text() == "Well again." and not panel.said.styleSheet()
    with pytest.raises(KeyError), panel.saying_failures():
        raise KeyError("a bug")
    panel.do_beside(lambda _events, _cancel: 1 / 0, done.append, text="Working ...", title="Work")
    assert panel.busy and panel.said.text() == "Working ..."
    qtbot.waitUntil(lambda: not panel.busy)
    assert "ZeroDivisionError" in panel.said.text() and done == ["begun", "begun"]
