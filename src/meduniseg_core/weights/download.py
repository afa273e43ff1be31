"""Fetching one file over https: bounded in size, checked against its sha256, and put in place only when both hold."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, NoReturn
from urllib.parse import urljoin, urlsplit

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path

MAX_BYTES = 8 << 30
TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 20
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
_MAX_REDIRECTS = 5


def is_url(source: str) -> bool:
    """Whether ``source`` is meant as a URL (of whatever scheme) rather than as a path."""
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
    """Fetch ``url`` into the file ``target``, which appears only once its sha256 was found right.

    Only https (and http on this very machine) is accepted, redirects included. UsageError for another scheme,
    BadInputError for a failed, oversized or different download; nothing is then left behind.
    """
    _check_scheme(url)
    try:
        with (
            atomic_path(target) as temporary,
            _opener().open(url, timeout=TIMEOUT_SECONDS) as response,
            temporary.open("wb") as stream,
        ):
            digest = _receive(response, stream, url, max_bytes, events, cancel)
            if digest != sha256:
                raise BadInputError(
                    f"{url}: the download's sha256 is {digest} and should be {sha256}; "
                    "it is broken or another file, get the right address and sha256."
                )
    except (OSError, http.client.HTTPException) as error:  # URLError, HTTPError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise BadInputError(f"{url}: the download failed ({reason}); check the address and the connection.") from error


def _receive(
    response: IO[bytes],
    stream: BinaryIO,
    url: str,
    max_bytes: int,
    events: EventSink,
    cancel: CancelToken | None,
) -> str:
    """Copy the body in blocks; returns its sha256."""
    assert isinstance(response, http.client.HTTPResponse)
    announced = response.length
    if announced is not None and announced > max_bytes:
        _too_large(url, max_bytes)
    digest, done, start = hashlib.sha256(), 0, time.monotonic()
    while block := response.read(_BLOCK):
        if cancel is not None:
            cancel.raise_if_cancelled()
        done += len(block)
        if done > max_bytes:
            _too_large(url, max_bytes)
        digest.update(block)
        stream.write(block)
        events(Progress("download", done, announced or done, time.monotonic() - start, url))
    if announced is not None and done != announced:
        raise BadInputError(f"{url}: the download broke off after {done} of {announced} bytes; try again.")
    return digest.hexdigest()


def _too_large(url: str, max_bytes: int) -> NoReturn:
    raise BadInputError(f"{url}: the file is larger than {max_bytes} bytes, more than any model; check the address.")


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS:
        return
    raise UsageError(f"Models are fetched over https only, not from '{url}'; download the file yourself and import it.")


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
        target = urljoin(req.full_url, newurl)
        _check_scheme(target)
        if urlsplit(req.full_url).scheme == "https" and urlsplit(target).scheme != "https":
            raise UsageError(f"'{req.full_url}' redirects to an unprotected address; download the file yourself.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https and nothing else (the default one also reads file:, ftp: and data:)."""
    opener = urllib.request.OpenerDirector()
    handlers: list[Callable[[], urllib.request.BaseHandler]] = [
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _SafeRedirects,
        urllib.request.HTTPErrorProcessor,
    ]
    for make in handlers:
        opener.add_handler(make())
    return opener
