"""Downloads one file over https: limited in size and time, and put in place only if its sha256 is right.

A server may be slow without end, and neither a name look-up nor a connection attempt can be interrupted. So a thread
fetches while the caller waits for it, polls the cancel token and watches the clock. When the caller gives up, it closes
the connection.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn
from urllib.parse import SplitResult, urljoin, urlsplit

from meduniseg_core.addresses import LOCAL_HOSTS
from meduniseg_core.errors import BadInputError, UnwritableError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path

MAX_BYTES = 8 << 30
TIMEOUT_SECONDS = 30.0
TOTAL_SECONDS = 6 * 3600.0
STALL_SECONDS, STALL_BYTES = 60.0, 1 << 16  # a download with fewer bytes in so long has stalled
_POLL_SECONDS = 0.1
_BLOCK = 1 << 20
_MAX_REDIRECTS = 5


def is_url(source: str) -> bool:
    """Whether a source is a URL (of any scheme) and not a path.

    Args:
        source: a URL or a path.

    Returns:
        True for a URL.
    """
    return "://" in source


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    max_bytes: int = MAX_BYTES,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> None:
    """Download a file. It appears at ``target`` only if its sha256 is right; otherwise nothing is left behind.

    Only https is accepted (and http from this machine itself), for redirects, too.

    Args:
        url: the address.
        target: the file to write.
        sha256: the expected digest, 64 hexadecimal digits.
        max_bytes: refuse a larger download.
        events: receives the progress.
        cancel: stops the download within a moment.

    Raises:
        UsageError: the address is malformed, or not https.
        BadInputError: the download failed, is too large, takes too long or has another sha256.
        CancelledError: ``cancel`` was set.
    """
    _check_scheme(url)
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        digest = _Fetching(url, stream, max_bytes).wait(events, cancel)
        if digest != sha256:
            raise BadInputError(
                f"{url}: the download's sha256 is {digest} and should be {sha256}; "
                "it is broken or another file, get the right address and sha256."
            )


class _Connection(http.client.HTTPConnection):
    """A connection that another thread can end; closing it also closes its response, even after an error."""

    connected: socket.socket | None = None
    answer: http.client.HTTPResponse | None = None

    def connect(self) -> None:
        super().connect()
        self.connected = self.sock

    def getresponse(self) -> http.client.HTTPResponse:
        self.answer = super().getresponse()
        return self.answer

    def end(self) -> None:
        """End any wait for the other side."""
        if self.connected is not None:
            try:
                self.connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # closed already

    def close_all(self) -> None:
        """Close the connection and its response."""
        self.close()
        if self.answer is not None:
            self.answer.close()


class _ProtectedConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Fetching:
    """A download running in a thread of its own."""

    def __init__(self, url: str, stream: BinaryIO, max_bytes: int) -> None:
        self._url, self._stream, self._max_bytes = url, stream, max_bytes
        self._given_up = threading.Event()
        self._connections: list[_Connection] = []
        self._done = 0
        self._announced: int | None = None
        self._digest: str | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)

    def wait(self, events: EventSink, cancel: CancelToken | None) -> str:
        """Wait for the download; returns the sha256 of its body. Events are sent from the calling thread."""
        start = newest = time.monotonic()
        told = counted = 0
        self._thread.start()
        try:
            running = True
            while running:
                self._thread.join(_POLL_SECONDS)
                running = self._thread.is_alive()
                now, done = time.monotonic(), self._done
                if done > told:
                    events(Progress("download", done, self._announced or done, now - start, self._url))
                    told = done
                if cancel is not None:
                    cancel.raise_if_cancelled()
                if done - counted >= STALL_BYTES:
                    newest, counted = now, done
                if running and (now - newest > STALL_SECONDS or now - start > TOTAL_SECONDS):
                    raise BadInputError(
                        f"{self._url}: the download takes too long ({done} bytes in {now - start:.0f} s); try again "
                        "later, or from another address."
                    )
        finally:
            self._give_up()
        if self._error is not None:
            raise self._error
        assert self._digest is not None
        return self._digest

    def _run(self) -> None:
        try:
            with _opener(self._connections).open(self._url, timeout=TIMEOUT_SECONDS) as response:
                self._digest = self._receive(response)
        except (BadInputError, UsageError) as error:
            self._error = error
        except Exception as error:  # a broken answer may break anything in the libraries; it is told by the waiting one
            self._error = self._failed(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
        finally:
            for connection in self._connections:
                connection.close_all()

    def _failed(self, reason: object) -> BadInputError:
        said = " ".join(str(reason).split())
        return BadInputError(f"{self._url}: the download failed ({said}); check the address and the connection.")

    def _receive(self, response: IO[bytes]) -> str:
        """Copy the body as it comes; returns its sha256."""
        assert isinstance(response, http.client.HTTPResponse)
        self._announced = response.length
        if self._announced is not None and self._announced > self._max_bytes:
            self._too_large()
        digest = hashlib.sha256()
        while not self._given_up.is_set() and (block := response.read1(_BLOCK)):
            if self._done + len(block) > self._max_bytes:
                self._too_large()
            digest.update(block)
            try:
                self._stream.write(block)
            except OSError as error:
                raise UnwritableError(Path(self._stream.name).parent, str(error.strerror)) from error
            self._done += len(block)
        if self._announced is not None and self._done != self._announced:
            raise BadInputError(
                f"{self._url}: the download broke off after {self._done} of {self._announced} bytes; try again."
            )
        return digest.hexdigest()

    def _too_large(self) -> NoReturn:
        raise BadInputError(
            f"{self._url}: the file is larger than {self._max_bytes} bytes, more than any model; check the address."
        )

    def _give_up(self) -> None:
        """Let the thread end, wherever it waits."""
        self._given_up.set()
        for connection in self._connections:
            connection.end()


def _check_scheme(url: str) -> None:
    parts = _parts(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in LOCAL_HOSTS:
        return
    raise UsageError(f"Models are fetched over https only, not from '{url}'; download the file yourself and import it.")


def _parts(url: str) -> SplitResult:
    """UsageError for an invalid address: brackets without an end, a port that is not a number, blanks."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
        if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
            raise ValueError("it holds characters that no address has")
    except ValueError as error:
        raise UsageError(f"{url!r:.300} is not an address ({error}); correct it.") from None
    return parts


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, each to an address that would have been accepted itself, never from https to http."""

    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            target = urljoin(req.full_url, newurl)
        except ValueError:
            raise UsageError(f"'{req.full_url}' redirects to an invalid address; download the file yourself.") from None
        _check_scheme(target)
        if urlsplit(req.full_url).scheme == "https" and urlsplit(target).scheme != "https":
            raise UsageError(f"'{req.full_url}' redirects to an unprotected address; download the file yourself.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(connections: list[_Connection]) -> urllib.request.OpenerDirector:
    """An opener that knows http and https and nothing else (the default one also reads file:, ftp: and data:).

    The connections that it makes are put into ``connections``.
    """

    def making(kind: type[_Connection]) -> Callable[..., _Connection]:
        def make(*arguments: Any, **options: Any) -> _Connection:
            connections.append(kind(*arguments, **options))
            return connections[-1]

        return make

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(making(_Connection), req)

    class Protected(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(making(_ProtectedConnection), req)

    opener = urllib.request.OpenerDirector()
    handlers: list[Callable[[], urllib.request.BaseHandler]] = [
        urllib.request.ProxyHandler,
        Plain,
        Protected,
        urllib.request.HTTPDefaultErrorHandler,
        _SafeRedirects,
        urllib.request.HTTPErrorProcessor,
    ]
    for make in handlers:
        opener.add_handler(make())
    return opener
