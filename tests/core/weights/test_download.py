"""Downloads: only https (here: http on this machine), never more than allowed, never another file than asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from weights_samples import small_info, small_state

from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.weights import Registry, save_model
from meduniseg_core.weights.download import download, is_url

BODY = bytes(range(256)) * 8192  # 2 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    body = BODY
    over = threading.Event()
    heard: ClassVar[list[str]] = []  # pages whose reader went away

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
        elif self.path.startswith("/slow"):
            self.slow()
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
        else:
            claimed = len(self.body) * (2 if self.path == "/short" else 1)
            self.send_response(200)
            if self.path != "/unannounced":
                self.send_header("Content-Length", str(claimed))
            self.end_headers()
            self.wfile.write(self.body)

    def slow(self) -> None:
        """Says nothing, or a header's letters or the body's bytes one by one, until nobody listens."""
        lines = {"/slow-header": b"HTTP/1.1 200 OK\r\nX: ", "/slow-body": b"HTTP/1.1 200 OK\r\n\r\n"}
        self.wfile.write(lines.get(self.path, b""))
        try:
            while not self.over.wait(0.05):
                if self.path != "/slow-answer":
                    self.wfile.write(b"x")
        except OSError:
            self.heard.append(self.path)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    _Handler.over.clear()
    _Handler.heard.clear()
    yield f"http://127.0.0.1:{httpd.server_port}"
    _Handler.over.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("page", ["/file", "/unannounced", "/to?/file"])
def test_a_file_arrives_whole(server: str, target: Path, page: str) -> None:
    events: list[Event] = []
    download(server + page, target, DIGEST, events=events.append)
    assert target.read_bytes() == BODY
    last = events[-1]
    assert isinstance(last, Progress)
    assert last.done == last.total == len(BODY)


def test_another_file_than_asked_for_is_removed(server: str, target: Path) -> None:
    with pytest.raises(BadInputError, match=f"is {DIGEST} and should be {'0' * 64}"):
        download(server + "/file", target, "0" * 64)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("page", ["/file", "/unannounced"])
def test_more_than_allowed_is_refused(server: str, target: Path, page: str) -> None:
    with pytest.raises(BadInputError, match="larger than"):
        download(server + page, target, DIGEST, max_bytes=len(BODY) - 1)
    assert not list(target.parent.iterdir())


def test_a_download_that_breaks_off_is_refused(server: str, target: Path) -> None:
    with pytest.raises(BadInputError, match=r"broke off|failed"):
        download(server + "/short", target, DIGEST)
    assert not list(target.parent.iterdir())


def test_errors_of_the_server_are_named(server: str, target: Path) -> None:
    with pytest.raises(BadInputError, match="Not Found"):
        download(server + "/missing", target, DIGEST)
    with pytest.raises(BadInputError, match="check the address"):
        download("http://127.0.0.1:9/file", target, DIGEST)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/model",
        "ftp://example.org/model",
        "file:///etc/passwd",
        "data://text/plain,hello",
        "https:///no-host",
        "http://127.0.0.1.example.org/model",
        "http://localhost@example.org/model",
    ],
)
def test_only_https_is_accepted(url: str, target: Path) -> None:
    assert is_url(url)
    with pytest.raises(UsageError, match="over https only"):
        download(url, target, DIGEST)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("location", ["http://example.org/model", "file:///etc/passwd", "ftp://example.org/x"])
def test_a_redirect_elsewhere_is_not_followed(server: str, target: Path, location: str) -> None:
    with pytest.raises((UsageError, BadInputError), match=r"over https only|is not allowed"):
        download(f"{server}/to?{location}", target, DIGEST)
    assert not list(target.parent.iterdir())


def test_endless_redirects_end(server: str, target: Path) -> None:
    page = "/to?/to?/to?/to?/to?/to?/to?/to?/to?/file"
    with pytest.raises(BadInputError, match="failed"):
        download(server + page, target, DIGEST)


def test_cancelling_leaves_nothing(server: str, target: Path) -> None:
    cancel = CancelToken()
    with pytest.raises(CancelledError):
        download(server + "/file", target, DIGEST, events=lambda _: cancel.cancel(), cancel=cancel)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("page", ["/slow-answer", "/slow-header", "/slow-body"])
def test_a_slow_server_makes_nobody_deaf(server: str, target: Path, page: str) -> None:
    cancel = CancelToken()
    threading.Timer(0.3, cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(CancelledError):
        download(server + page, target, DIGEST, cancel=cancel)
    assert time.monotonic() - start < 5  # the machine may be busy; nothing else takes time
    assert not list(target.parent.iterdir())
    deadline = time.monotonic() + 10
    while any(thread.name == "download" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the connection was left open"
        time.sleep(0.05)


@pytest.mark.parametrize("page", ["/slow-answer", "/slow-header", "/slow-body"])
@pytest.mark.parametrize("limit", ["TOTAL_SECONDS", "STALL_SECONDS"])
def test_a_download_without_end_ends(
    server: str, target: Path, page: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"meduniseg_core.weights.download.{limit}", 0.3)
    with pytest.raises(BadInputError, match="takes too long"):
        download(server + page, target, DIGEST)
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1",
        "https://[zz]/model",
        "https://example.org:port/model",
        "https://example.org:99999999/model",
        "https://exa mple.org/model",
        "https://example.org/mo\ndel",
        "https://example.org/\x00",
        "https://\udcff.org/model",
        f"https://{'a' * 64}.org/model",
        "https://a..b/model",
        "https://münchen.example/\u202emodel",
    ],
)
def test_what_is_no_address_is_said_in_one_sentence(url: str, target: Path) -> None:
    with pytest.raises(UsageError, match="is not an address") as caught:
        download(url, target, DIGEST)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("location", ["https://[::1", "//exa mple.org:x/", "http://127.0.0.1:port/"])
def test_a_redirect_to_no_address_is_said(server: str, target: Path, location: str) -> None:
    with pytest.raises((UsageError, BadInputError)) as caught:
        download(f"{server}/to?{location.replace(' ', '%20')}", target, DIGEST)
    assert "\n" not in str(caught.value)
    assert not list(target.parent.iterdir())


def test_a_model_is_installed_from_an_address(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "source.safetensors"
    digest = save_model(path, small_info("remote"), small_state())
    monkeypatch.setattr(_Handler, "body", path.read_bytes())
    registry = Registry(tmp_path / "models", tmp_path / "none")
    with pytest.raises(BadInputError, match="should be"):
        registry.install(server + "/file", "f" * 64)
    assert registry.list() == ()
    assert registry.install(server + "/file", digest).name == "remote"
    assert registry.verify("remote").recorded


def test_a_download_that_is_no_model_is_not_installed(server: str, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models", tmp_path / "none")
    with pytest.raises(BadInputError) as caught:
        registry.install(server + "/file", DIGEST)
    assert str(caught.value).startswith(server)
    assert registry.list() == ()
    assert not [path for path in registry.folder.iterdir() if path.name != ".lock"]
