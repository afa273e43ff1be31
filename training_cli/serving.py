"""Listens for ``meduniseg serve`` (uvicorn), until Ctrl-C or SIGTERM; then everything of it is removed."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from meduniseg_core.connections import check_pair
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, cancelled_by_signals
from meduniseg_core.serving import JobQueue, Limits, NetworkWorker
from meduniseg_core.serving.app import make_app
from training_cli.output import printable

_PATIENCE = 5  # seconds that open connections get when the server ends


@dataclass(frozen=True)
class Listening:
    """Where the server listens and to whom; ``local``: on this machine alone."""

    host: str
    port: int
    token: str | None
    local: bool
    certificate: Path | None = None
    key: Path | None = None


def listen(worker: NetworkWorker, limits: Limits, how: Listening) -> int:
    """Serve until a signal comes; returns the exit code. UsageError where the address cannot be listened on."""
    try:
        family = socket.AF_INET6 if ":" in how.host else socket.AF_INET
        bound = socket.create_server((how.host, how.port), family=family, backlog=128)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{how.host}:{how.port} cannot be listened on ({reason}); choose another --port.") from error
    jobs = JobQueue(worker, limits)
    try:
        config = uvicorn.Config(
            make_app(worker, jobs, how.token, local=how.local),
            access_log=False,  # it would keep file names, which may be names of people
            log_level="warning",
            timeout_graceful_shutdown=_PATIENCE,
            limit_concurrency=limits.waiting * 8 + 64,
            ssl_certfile=how.certificate,
            ssl_keyfile=how.key,
            ssl_keyfile_password="none",  # an encrypted key is refused; OpenSSL would ask on a terminal
        )
        if how.certificate is not None and how.key is not None:  # before the address is announced
            check_pair(how.certificate, how.key)
        config.load()
        scheme = "https" if how.certificate is not None else "http"
        host = f"[{how.host}]" if ":" in how.host else how.host
        print(printable(f"Listening on {scheme}://{host}:{bound.getsockname()[1]}"), file=sys.stderr, flush=True)
        with cancelled_by_signals(CancelToken(), patient=True):  # uvicorn passes its signals on when it has ended
            uvicorn.Server(config).run([bound])
    finally:
        jobs.close()
        bound.close()
    return 0
