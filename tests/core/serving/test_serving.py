"""The server as its users meet it: real requests to a real uvicorn, with work that is quick to watch and to stop."""

from __future__ import annotations

import io
import socket
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, Event, Message, Progress

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
requests = pytest.importorskip("requests")

from meduniseg_core.serving import Job, JobOrder, JobQueue, Limits  # noqa: E402
from meduniseg_core.serving.app import make_app  # noqa: E402
from meduniseg_core.serving.jobs import ResultFile  # noqa: E402
from meduniseg_core.serving.unpack import unpack_upload  # noqa: E402

ORDER = {"filename": "ct.nii.gz", "task": "liver"}
SMALL = Limits(upload_bytes=100_000, unpacked_bytes=50_000, files=20, waiting=4, keep_seconds=60)


class SlowWork:
    """Copies the upload as its result once ``go`` is set; counts how many run at a time."""

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.running = self.most = 0

    def check(self, order: JobOrder) -> list[str]:
        if order.task != "liver":
            raise UsageError("There is no such task here.")
        return [order.task]

    def offer(self) -> Any:
        return SimpleNamespace(infos={}, plans={}, models={})

    def __call__(self, job: Job, events: Callable[[Event], None], cancel: CancelToken) -> list[ResultFile]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.began.set()
        try:
            events(Message("info", "begun"))
            events(Progress("segment", 1, 4, 0.5))
            while not self.go.wait(0.01):
                cancel.raise_if_cancelled()
            content = job.upload.read_bytes()
            if content == b"bad":
                raise BadInputError(f"{job.upload.name} is no image.")
            folder = job.folder / "results"
            folder.mkdir()
            (folder / "ct.nii.gz").write_bytes(content)
            (folder / "ct.json").write_text("{}")
        finally:
            self.running -= 1
        return [ResultFile("liver", "labels", folder / "ct.nii.gz"), ResultFile("liver", "record", folder / "ct.json")]


class Served:
    def __init__(self, work: SlowWork, jobs: JobQueue, address: str) -> None:
        self.work, self.jobs, self.address = work, jobs, address

    def call(self, method: str, path: str, **more: Any) -> Any:
        return requests.request(method, f"{self.address}{path}", timeout=60, **more)

    def upload(self, data: bytes = b"voxels", **more: Any) -> Any:
        return self.call("POST", "/jobs", params=ORDER, data=data, **more)

    def until(self, job: str, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while (found := self.call("GET", f"/jobs/{job}").json())["state"] != state:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return dict(found)

    def left(self) -> list[Path]:
        return [path for path in self.jobs.folder.iterdir() if path.name != ".lock"]


@contextmanager
def serving(folder: Path, limits: Limits = SMALL, **how: Any) -> Iterator[Served]:
    work = SlowWork()
    jobs = JobQueue(work, limits, folder)
    app = make_app(work, jobs, how.pop("token", None), local=how.pop("local", True))  # type: ignore[arg-type]
    bound = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error"))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        yield Served(work, jobs, f"http://127.0.0.1:{bound.getsockname()[1]}")
    finally:
        work.go.set()
        server.should_exit = True
        thread.join(30)
        bound.close()
    assert not thread.is_alive() and not list(folder.glob("meduniseg-serve-*"))  # nothing is left of a server


def test_a_job_from_upload_to_result_and_nothing_is_left(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.call("GET", "/health").json()["jobs"] == {"receiving": 0, "waiting": 0, "running": 0, "room": 4}
        sent = served.upload()
        assert sent.status_code == 202
        job = sent.json()["id"]
        assert served.work.began.wait(30)
        running = served.until(job, "running")
        assert running["progress"] == {"stage": "segment", "done": 1, "total": 4, "seconds": 0.5}
        assert running["messages"] == [{"level": "info", "text": "begun"}]
        served.work.go.set()
        done = served.until(job, "done")
        assert [(file["kind"], file["name"]) for file in done["results"]] == [
            ("labels", "ct.nii.gz"),
            ("record", "ct.json"),
        ]
        assert served.call("GET", f"/jobs/{job}/files/0").content == b"voxels"
        assert not any(path.name == "upload" for path in served.jobs.folder.rglob("*"))  # the image is gone already
        assert served.call("GET", f"/jobs/{job}/files/2").status_code == 400
        assert served.call("DELETE", f"/jobs/{job}").status_code == 204
        assert served.left() == [] and served.call("GET", f"/jobs/{job}").status_code == 404
        whole = served.call("POST", "/segment", params=ORDER, data=b"more")
        assert whole.content == b"more"
        bad = served.call("POST", "/segment", params=ORDER, data=b"bad")
        assert bad.status_code == 400 and bad.json() == {"error": "ct.nii.gz is no image."}
        deadline = time.monotonic() + 30
        while served.left() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert served.left() == []


def test_a_hundred_at_once_are_bounded_by_the_queue(tmp_path: Path) -> None:
    with serving(tmp_path) as served, ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: served.upload().status_code, range(100)))
        assert set(answers) == {202, 429}
        assert SMALL.waiting <= answers.count(202) <= SMALL.waiting + 1  # one may have begun to run
        assert len(served.left()) <= SMALL.waiting + 1
        served.work.go.set()
        deadline = time.monotonic() + 60
        while served.jobs.counts()["room"] < SMALL.waiting and time.monotonic() < deadline:
            time.sleep(0.02)
        assert served.upload().status_code == 202 and served.work.most == 1


def test_cancelling_stops_what_runs_and_what_waits(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        running, waiting = served.upload().json()["id"], served.upload().json()["id"]
        assert served.work.began.wait(30)
        for job in (waiting, running):
            assert served.call("DELETE", f"/jobs/{job}").status_code == 204
        deadline = time.monotonic() + 30
        while (served.left() or served.work.running) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert served.left() == [] and served.work.running == 0


def test_whoever_goes_away_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        host, port = served.address.removeprefix("http://").split(":")
        for head in (b"Content-Length: 5000", b"Content-Length: 6"):  # in mid-transfer; while the result is awaited
            with socket.create_connection((host, int(port))) as line:
                line.sendall(b"POST /segment?filename=a.nii&task=liver HTTP/1.1\r\nHost: localhost\r\n" + head)
                line.sendall(b"\r\n\r\nvoxels")
                time.sleep(0.3)
            deadline = time.monotonic() + 30
            while served.left() and time.monotonic() < deadline:
                time.sleep(0.02)
            assert served.left() == [] and served.jobs.counts()["room"] == SMALL.waiting


def test_too_large_is_refused_however_it_is_sent(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        large = bytes(SMALL.upload_bytes + 1)
        assert served.upload(large).status_code == 413
        blocks = (large[place : place + 10_000] for place in range(0, len(large), 10_000))
        assert served.upload(blocks).status_code == 413  # type: ignore[arg-type]  # chunked: no length is said
        assert served.upload(b"").status_code == 400
        assert served.left() == []


@pytest.mark.parametrize("name", ["../a.nii", "/etc/a.nii", "a/b.nii", "..\\a.nii", ".hidden", "a\nb.nii", "x" * 200])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="filename"):
        JobOrder(filename=name, task="liver")


def test_unknown_options_and_tasks_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        for wrong in ({"model": "/etc/passwd"}, {"task": "lung"}, {"overlap": "nan"}, {"box": "1,2"}, {"frame": "0"}):
            refused = served.call("POST", "/jobs", params={**ORDER, **wrong}, data=b"x")
            assert refused.status_code == 400 and refused.json()["error"], wrong
        assert served.left() == []


def test_only_who_may_comes_in(tmp_path: Path) -> None:
    with serving(tmp_path, token="correct horse battery", local=False) as served:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "correct horse battery"}):
            refused = served.call("GET", "/health", headers=headers)
            assert refused.status_code == 401 and "token" in refused.json()["error"]
            assert served.upload(headers=headers).status_code == 401
        allowed = {"Authorization": "Bearer correct horse battery"}
        assert served.call("GET", "/health", headers=allowed).status_code == 200
        assert served.call("GET", "/openapi.json", headers=allowed).status_code == 404
    with serving(tmp_path) as served:  # on the loopback address: no web page, under whatever name
        assert served.call("GET", "/health", headers={"Host": "evil.example"}).status_code == 403
        assert served.call("GET", "/health", headers={"Origin": "https://evil.example"}).status_code == 403
        assert served.upload(headers={"Origin": "http://localhost"}).status_code == 403


def test_results_that_nobody_fetches_go_after_a_while(tmp_path: Path) -> None:
    limits = Limits(upload_bytes=1000, waiting=2, keep_seconds=0.2)
    with serving(tmp_path, limits) as served:
        served.work.go.set()
        job = served.upload().json()["id"]
        deadline = time.monotonic() + 30
        while served.call("GET", f"/jobs/{job}").status_code != 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert served.left() == []


def packed(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_archives_are_unpacked_and_tricks_are_refused(tmp_path: Path) -> None:
    unpack_upload(packed(tmp_path / "good.zip", ("ct/1.dcm", b"1"), ("ct/2.dcm", b"2")), tmp_path / "good", SMALL)
    assert sorted(path.read_bytes() for path in (tmp_path / "good").rglob("*.dcm")) == [b"1", b"2"]
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    pipe = zipfile.ZipInfo("pipe")
    pipe.external_attr = (stat.S_IFIFO | 0o666) << 16
    tricks: list[tuple[str | zipfile.ZipInfo, bytes]] = [
        *[
            (name, b"x")
            for name in ("../out", "a/../../out", "/tmp/out", "..\\out", "C:\\out", "a\x01b", "a/" * 20 + "b")
        ],
        (link, b"/etc/passwd"),
        (pipe, b""),
        ("bomb", bytes(1_000_000)),
    ]
    for number, trick in enumerate(tricks):
        with pytest.raises(BadInputError):
            unpack_upload(packed(tmp_path / f"{number}.zip", trick), tmp_path / f"folder{number}", SMALL)
    many = packed(tmp_path / "many.zip", *[(f"{number}", b"") for number in range(SMALL.files + 1)])
    with pytest.raises(BadInputError, match="holds 21 files"):
        unpack_upload(many, tmp_path / "many", SMALL)
    cut = (tmp_path / "good.zip").read_bytes()[:-10]
    (tmp_path / "cut.zip").write_bytes(cut)
    with pytest.raises(BadInputError, match="not a complete, unencrypted zip"):
        unpack_upload(tmp_path / "cut.zip", tmp_path / "cut", SMALL)
    lying = io.BytesIO()
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(80_000))
    data = bytearray(lying.getvalue())
    for size in (80_000,):  # says that it is small
        while (place := data.find(size.to_bytes(4, "little"))) >= 0:
            data[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(data)
    with pytest.raises(BadInputError):
        unpack_upload(tmp_path / "lying.zip", tmp_path / "lying", SMALL)
    outside = {path.name for path in tmp_path.iterdir()} & {"out", "passwd"}
    assert not outside and not Path("/tmp/out").exists()
