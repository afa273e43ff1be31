"""kill -9 of processes that accept corrections and install models, at random moments; used by `kills.py`.

The processes are forked: one takes milliseconds to start, so many moments can be tried.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from meduniseg_core.corrections import Ledger
from meduniseg_core.files import sha256_of
from meduniseg_core.images import Image, read_image, read_labels
from meduniseg_core.weights import Registry, read_model, save_model

Make = Callable[[int], tuple[Image, Image]]


def kill_ledger(ledger: Ledger, make: Make, kills: int, rng: np.random.Generator) -> str:
    """A process that accepts without a pause, killed ``kills`` times."""
    confirmed = undone = 0
    for _ in range(kills):
        said, says = os.pipe()
        child = forked(lambda says=says: _accept_for_ever(ledger, make, says))
        os.close(says)
        _kill(child, rng.uniform(0.02, 0.6))
        with os.fdopen(said) as stream:
            names = [line.strip() for line in stream if line.endswith("\n")]
        undone += (ledger.folder / ".pending.json").exists()
        ledger.accept(*make(len(ledger.entries()) % 40))  # the next program, which takes back what was broken off
        confirmed += _check_ledger(ledger, names)
    return (
        f"ledger killed {kills} times while accepting ({undone} in the middle of one): {confirmed} acceptances "
        f"confirmed, {len(ledger.entries())} in the ledger ({kills} by the program after), images and labels as "
        "their line says, nothing is left after the next acceptance"
    )


def two_on_one_ledger(ledger: Ledger, make: Make, count: int) -> str:
    """Two processes accept ``count`` cases each, at the same time."""
    before = len(ledger.entries())
    children = []
    for first in (1000, 2000):

        def accept(first: int = first) -> None:
            for seed in range(first, first + count):
                ledger.accept(*make(seed))

        children.append(forked(accept))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0], codes
    _check_ledger(ledger, [])
    added = ledger.entries()[before:]
    assert len(added) == 2 * count and len({entry.case for entry in added}) == 2 * count
    return f"two programs on one ledger: {2 * count} acceptances, none lost, lines numbered without a gap"


def kill_install(home: Path, model: Path, kills: int, rng: np.random.Generator) -> str:
    """A process that installs from files and an address, replaces and removes, killed ``kills`` times."""
    registry = Registry(home / "killed-models", home / "nothing-shipped")
    loaded = read_model(model)
    files = []
    for index in range(2):
        path = home / f"variant{index}.safetensors"
        state = {name: value + 0.001 * index for name, value in loaded.network.state_dict().items()}
        save_model(path, loaded.info.model_copy(update={"name": "victim"}), state)
        files.append(path)
    digests = {sha256_of(path) for path in files}
    left_over = there = 0
    with _slow_server(files[1].read_bytes()) as url:
        for _ in range(kills):
            child = forked(lambda: _install_for_ever(registry, files, url))
            _kill(child, rng.uniform(0.0, 1.2))
            left_over += any(registry.folder.glob(".incoming-*"))
            if (registry.folder / "victim.safetensors").exists():
                found = registry.verify("victim")
                assert found.recorded and found.sha256 in digests, found
                there += 1
            registry.list()  # the next start
            left = {path.name for path in registry.folder.iterdir()} - {".lock"}
            assert left in (set(), {"victim.safetensors", "victim.safetensors.sha256"}), left
    return (
        f"model install killed {kills} times ({left_over} with a half-received file, {there} with a model there): "
        "every model has its sha256 and is whole, nothing is left after the next start"
    )


def _accept_for_ever(ledger: Ledger, make: Make, says: int) -> None:
    seed = len(ledger.entries())
    while True:
        image, labels = make(seed % 40)  # the same image again, now and then
        entry = ledger.accept(image, labels)
        os.write(says, f"{entry.case}\n".encode())
        seed += 1


def _check_ledger(ledger: Ledger, confirmed: list[str]) -> int:
    """Lines and files agree, and what was confirmed is there; its number."""
    ledger = Ledger.open(ledger.folder)
    entries = ledger.cases()
    assert set(confirmed) <= set(entries), "a confirmed acceptance is missing"
    cases = ledger.dataset.cases("Tr")
    assert len(cases) == len(entries)
    for case in cases:
        assert case.label is not None
        assert read_image(case.images).sha256 == entries[case.case].image_sha256
        assert read_labels(case.label).sha256 == entries[case.case].labels_sha256
    assert not list(ledger.folder.rglob(".tmp-*")) and not (ledger.folder / ".pending.json").exists()
    return len(confirmed)


def _install_for_ever(registry: Registry, files: list[Path], url: str) -> None:
    digest = sha256_of(files[1])
    while True:
        registry.install(files[0], replace=True)
        registry.install(url, digest, replace=True)
        registry.install(files[0], replace=True)
        registry.remove("victim")


@contextmanager
def _slow_server(body: bytes) -> Iterator[str]:
    """The body in ten pieces."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            step = len(body) // 10 + 1
            try:
                for first in range(0, len(body), step):
                    self.wfile.write(body[first : first + step])
                    time.sleep(0.005)
            except OSError:
                return  # the reader was killed

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/model"
    finally:
        server.shutdown()
        server.server_close()


def forked(work: Callable[[], object]) -> int:
    """Do this in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def _kill(child: int, after: float) -> None:
    time.sleep(float(after))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "the process ended by itself"
