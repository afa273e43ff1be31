"""A real Orthanc with its DICOMweb plug-in on the loopback address, and a line to it that breaks on demand."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

USER, PASSWORD = "reader", "secret word"
ORTHANC = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or not PLUGIN.exists(), reason="Orthanc is not installed (Debian: orthanc orthanc-dicomweb)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """An empty archive; yields the address of its DICOMweb service."""
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/dicom-web"
    try:
        deadline = time.monotonic() + 60
        while not _answers(address):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/studies", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it asks who is there
    except OSError:
        return False
    return True


@contextmanager
def breaking_line(address: str, *, up: int | None = None, down: int | None = None) -> Iterator[str]:
    """A line to the archive that breaks off after so many bytes of a request (``up``) or an answer (``down``)."""
    port = int(address.split(":")[2].split("/")[0])
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)
    over = threading.Event()

    def carry(source: socket.socket, target: socket.socket, most: int | None) -> None:
        with suppress(OSError):
            while block := source.recv(4096):
                if most is not None:
                    block, most = block[:most], most - len(block)
                target.sendall(block)
                if most is not None and most <= 0:
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def connect(here: socket.socket) -> None:
        with here, socket.create_connection(("127.0.0.1", port)) as there:
            ways = [
                threading.Thread(target=carry, args=one, daemon=True)
                for one in ((here, there, up), (there, here, down))
            ]
            for way in ways:
                way.start()
            for way in ways:
                way.join(60)

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                here, _ = listening.accept()
                connections.append(threading.Thread(target=connect, args=(here,), daemon=True))
                connections[-1].start()

    connections: list[threading.Thread] = []
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
    finally:
        over.set()
        thread.join(10)
        for connection in connections:
            connection.join(10)
        listening.close()
