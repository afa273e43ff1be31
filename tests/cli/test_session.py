"""Ctrl-C, stdout kept clean, and how events are shown."""

from __future__ import annotations

import json
import os
import signal

import pytest

from meduniseg_core.events import CaseDone, Message, Metric, Progress
from training_cli.output import jsonable
from training_cli.session import work


def test_the_first_interrupt_cancels_and_the_second_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), work("none") as session:
        os.kill(os.getpid(), signal.SIGINT)
        assert session.cancel.cancelled
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_cancels_too() -> None:
    with work("none") as session:
        os.kill(os.getpid(), signal.SIGTERM)
        assert session.cancel.cancelled


def test_with_json_what_others_print_goes_to_stderr(capsys) -> None:
    with work("none", as_json=True) as session:
        print("a library's banner")
        session.result({"answer": 1}, "for people")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"answer": 1}
    assert printed.err == "a library's banner\n"


def test_without_json_the_lines_are_printed(capsys) -> None:
    with work("none") as session:
        session.result({"answer": 1}, "for people")
    assert capsys.readouterr().out == "for people\n"


def test_events_as_json_lines(capsys) -> None:
    with work("json") as session:
        session.events(Progress("segment", 1, 2, 0.5))
        session.events(Metric("dice", float("nan"), 7, "spleen"))
        session.events(Message("warning", "careful"))
        session.events(CaseDone("scan", "liver", "out/scan.nii.gz", 1.25))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        {"event": "progress", "stage": "segment", "done": 1, "total": 2, "seconds": 0.5, "detail": ""},
        {"event": "metric", "name": "dice", "value": None, "step": 7, "task": "spleen"},
        {"event": "message", "level": "warning", "text": "careful"},
        {
            "event": "casedone",
            "case": "scan",
            "task": "liver",
            "path": "out/scan.nii.gz",
            "seconds": 1.25,
            "warnings": [],
            "quality": None,
        },
    ]


def test_a_log_shows_a_stage_when_it_is_done_and_not_every_step(capsys) -> None:
    with work("lines") as session:
        for done in range(1, 101):
            session.events(Progress("segment", done, 100, done / 10))
        session.events(Message("info", "grey image repeated as red, green and blue"))
        session.events(Metric("dice", 0.5, 7, "spleen"))
        session.events(Metric("loss", 0.25, 7))
        session.events(CaseDone("scan", "liver", "out/scan.nii.gz", 1.25))
    assert capsys.readouterr().err.splitlines() == [
        "segment: 100 of 100, 10.0 s",
        "note: grey image repeated as red, green and blue",
        "step 7: spleen dice 0.5000",
        "step 7: loss 0.2500",
        "scan (liver): out/scan.nii.gz, 1.2 s",
    ]


def test_the_bar_survives_every_kind_of_event(capsys) -> None:
    with work("bar") as session:
        session.events(Metric("loss", 0.25, 1))
        session.events(Progress("train", 1, 2, 0.5, "epoch 1/2"))
        session.events(Progress("export", 1, 1))
        session.events(Message("warning", "[careful] with brackets"))
        session.events(CaseDone("scan", "liver", "out/scan.nii.gz", 1.25))
    assert "warning: [careful] with brackets" in capsys.readouterr().err


def test_numbers_of_numpy_become_json_and_infinities_null() -> None:
    import numpy as np

    assert jsonable({"a": np.float32(0.5), "b": (float("inf"), np.int64(3)), 1: None}) == {
        "a": 0.5,
        "b": [None, 3],
        "1": None,
    }


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError, match="object"):
        jsonable(object())
