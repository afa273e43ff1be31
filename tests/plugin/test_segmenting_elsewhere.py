"""Segment by a server: the same labels as on this machine, with progress and cancelling, and nothing left there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("requests")

from test_segmenting import FP32, add_volume  # noqa: E402

from meduniseg_core.errors import BadInputError, CancelledError, UsageError  # noqa: E402
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore  # noqa: E402
from meduniseg_core.serving import JobQueue, Limits, NetworkWorker  # noqa: E402
from meduniseg_core.serving.app import make_app  # noqa: E402
from meduniseg_core.serving.jobs import ResultFile  # noqa: E402
from napari_meduniseg._compute_options import ComputeOptions  # noqa: E402
from napari_meduniseg._result_layers import add_results  # noqa: E402
from napari_meduniseg._segmentation_job import (  # noqa: E402
    Predictors,
    SegmentChoice,
    forecast,
    prepare_job,
    run_job,
)

TOKEN = "a token of the test"


@pytest.fixture
def server(tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, JobQueue]]:
    limits = Limits(waiting=3)
    worker = NetworkWorker(limits, "tiny", "cpu", "fp32")
    (tmp_path / "jobs").mkdir()
    jobs = JobQueue(worker, limits, tmp_path / "jobs")
    bound = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(
        uvicorn.Config(make_app(worker, jobs, TOKEN, local=True), access_log=False, log_level="error")
    )
    thread = threading.Thread(target=running.run, args=([bound],), daemon=True)
    thread.start()
    monkeypatch.setenv("MEDUNISEG_TOKEN", TOKEN)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}", jobs
    running.should_exit = True
    thread.join(60)
    bound.close()


def order_of(viewer: ViewerModel, address: str, **changes: Any) -> Any:
    layer = viewer.layers[0] if viewer.layers else add_volume(viewer)
    compute = ComputeOptions(precision="fp32", server=address)
    fields: dict[str, Any] = {"tasks": ("organ", "vessel"), "model": "tiny", "compute": compute, **changes}
    return prepare_job(SegmentChoice(layers=(layer,), **fields), viewer)


def left(jobs: JobQueue) -> list[Path]:
    deadline = time.monotonic() + 30
    while (found := [path for path in jobs.folder.iterdir() if path.name != ".lock"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_a_server_finds_what_this_machine_finds(server: tuple[str, JobQueue], tmp_path: Path) -> None:
    address, jobs = server
    viewer, events = ViewerModel(), list[Any]()
    order = order_of(viewer, address)
    assert forecast(order, Predictors()).text == f"It is computed on {address}"
    there = run_job(order, Predictors(), events.append, CancelToken())
    here = run_job(order_of(viewer, "", compute=FP32), Predictors(), ignore, CancelToken())
    assert list(there.results) == ["organ", "vessel"]
    for task, result in here.results.items():
        other = there.results[task]
        assert np.array_equal(other.labels.array, result.labels.array) and other.labels.array.any()
        assert other.provenance()["image_sha256"] == result.provenance()["image_sha256"]
        assert (other.class_names, other.model_sha256) == (result.class_names, result.model_sha256)
        assert other.findings == result.findings and address in other.execution
    assert any(isinstance(event, Progress) and event.stage == "segment" for event in events)
    assert len(add_results(order, there, viewer)) == 2 and left(jobs) == []


def test_cancelling_reaches_the_server(
    server: tuple[str, JobQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, jobs = server
    reached = threading.Event()

    def until_cancelled(_job: object, events: EventSink, cancel: CancelToken) -> list[ResultFile]:
        events(Progress("segment", 1, 10, 0.0))
        for _ in range(6000):
            if cancel.cancelled:
                reached.set()
            cancel.raise_if_cancelled()
            time.sleep(0.01)
        return []

    monkeypatch.setattr(jobs, "_work", until_cancelled)
    cancel = CancelToken()
    order = order_of(ViewerModel(), address)

    def stop(_event: object) -> None:
        cancel.cancel()

    with pytest.raises(CancelledError):
        cancel.cancel()
        run_job(order, Predictors(), ignore, cancel)
    cancel = CancelToken()
    with pytest.raises(CancelledError):
        run_job(order, Predictors(), stop, cancel)
    assert reached.wait(30)
    assert left(jobs) == []


def test_what_fails_there_is_one_sentence_here(
    server: tuple[str, JobQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, jobs = server
    viewer = ViewerModel()
    with pytest.raises(UsageError, match="There is no task 'liver' here"):
        run_job(order_of(viewer, address, tasks=("liver",)), Predictors(), ignore, CancelToken())
    for more, remedy in (
        ({"probabilities": True}, "untick Probabilities"),
        ({"head": tmp_path / "head.json"}, "clear Class head"),
    ):
        compute = ComputeOptions(server=address, **more)
        with pytest.raises(UsageError, match=f"labels alone; {remedy}"):
            run_job(order_of(viewer, address, compute=compute), Predictors(), ignore, CancelToken())
    monkeypatch.setenv("MEDUNISEG_TOKEN", "another")
    with pytest.raises(UsageError, match="the token is missing or wrong") as caught:
        run_job(order_of(viewer, address), Predictors(), ignore, CancelToken())
    assert "another" not in str(caught.value)
    with pytest.raises(BadInputError, match="cannot be reached"):
        run_job(order_of(viewer, "http://127.0.0.1:9"), Predictors(), ignore, CancelToken())
    assert left(jobs) == []
