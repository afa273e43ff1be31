"""A real Orthanc with its DICOMweb plug-in on the loopback address, and a line to it that breaks on demand."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
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
def orthanc(folder: Path, tls: tuple[Path, Path] | None = None, clients: Path | None = None) -> Iterator[str]:
    """An empty archive; yields the address of its DICOMweb service.

    With a certificate and its key (``tls``) it speaks https, with ``clients`` only to those who show a certificate of
    that authority.
    """
    port = free_port()
    settings: dict[str, object] = {
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
    environment = dict(os.environ)
    if tls is not None:
        (folder / "both.pem").write_bytes(b"".join(path.read_bytes() for path in tls))
        settings |= {"SslEnabled": True, "SslCertificate": str(folder / "both.pem")}
        if clients is not None:
            settings |= {"SslVerifyPeers": True, "SslTrustedClientCertificates": str(clients)}
        environment["LD_LIBRARY_PATH"] = str(_old_name(folder / "libraries"))
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        command = [str(ORTHANC), str(folder / "orthanc.json")]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 60
        while "Orthanc has started" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/dicom-web"
    finally:
        process.kill()
        process.wait(30)


def _old_name(folder: Path) -> Path:
    """A folder with a library of OpenSSL 3 that knows a function by the name that it had in OpenSSL 1.1, too.

    Debian 12's Orthanc wants that one: its web server (civetweb 1.15) looks it up by its old name, does not find it,
    and ends with the first https request.
    """
    folder.mkdir(parents=True)
    try:
        known = hasattr(ctypes.CDLL("libssl.so.3"), "SSL_get_peer_certificate")
    except OSError:
        known = True  # another OpenSSL
    compiler = shutil.which("cc")
    if known or compiler is None:
        return folder if known else pytest.skip("Orthanc's https needs a C compiler here")
    (folder / "old.c").write_text(
        "void *SSL_get1_peer_certificate(const void *);\n"
        "void *SSL_get_peer_certificate(const void *ssl) { return SSL_get1_peer_certificate(ssl); }\n"
    )
    command = [compiler, "-shared", "-fPIC", "-o", "libssl.so", "old.c", "-Wl,--no-as-needed", "-l:libssl.so.3"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@contextmanager
def breaking_line(address: str, *, up: int | None = None, down: int | None = None) -> Iterator[str]:
    """A line to the archive that breaks off after so many bytes of a request (``up``) or an answer (``down``)."""
    scheme, port = address.split(":")[0], int(address.split(":")[2].split("/")[0])
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
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
    finally:
        over.set()
        thread.join(10)
        for connection in connections:
            connection.join(10)
        listening.close()
