"""Archives over TLS: whom the client trusts, and the one sentence for each certificate that it refuses."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError

pytest.importorskip("cryptography")
pytest.importorskip("dicomweb_client")

from meduniseg_core.pacs import Credentials, DicomArchive
from tests.certificate_making import Authority

STUDY = "1.2.826.0.1.3680043.8.498.1"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class _Studies(BaseHTTPRequestHandler):
    """Answers every search with one study."""

    def do_GET(self) -> None:  # the library's name
        self.server.asked.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        body = json.dumps([{"0020000D": {"vr": "UI", "Value": [STUDY]}}]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that does not trust us hangs up: that is what is tested."""


@contextmanager
def archive_over_tls(certificate: Path, key: Path) -> Iterator[tuple[int, list[str | None]]]:
    """A port of this machine that answers over TLS, and the Authorization of each request that came through."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", 0), _Studies)
    server.asked = []  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port, server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for variable in BUNDLES:
        monkeypatch.delenv(variable, raising=False)
    return Authority.in_folder(tmp_path)


def sentence(address: str, ca: Path | None) -> str:
    with pytest.raises(BadInputError) as caught:
        DicomArchive(address, Credentials("the test", "reader", "secret word"), ca).studies()
    said = str(caught.value)
    assert "secret word" not in said and "\n" not in said and said.count(". ") == 0
    return said


def test_the_named_authority_is_trusted_and_no_other(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority.in_folder(tmp_path, "other")
    with archive_over_tls(*authority.sign(tmp_path, "localhost", "127.0.0.1")) as (port, asked):
        for host in ("localhost", "127.0.0.1"):
            address = f"https://{host}:{port}/dicom-web"
            (found,) = DicomArchive(address, authority=authority.file).studies()
            assert found.uid == STUDY
            refused = f"The certificate of {address} cannot be verified (unable to get local issuer certificate); "
            assert sentence(address, None) == (
                f"{refused}name its authority's file (--ca, or the variable REQUESTS_CA_BUNDLE)."
            )
            assert sentence(address, other.file).startswith(refused)
        # what is named for this command goes before what the environment names for all
        for variable in BUNDLES:
            monkeypatch.setenv(variable, str(other.file))
            assert DicomArchive(address, authority=authority.file).studies()
            assert sentence(address, None).startswith(refused)
            monkeypatch.setenv(variable, str(authority.file))
            assert DicomArchive(address).studies()
            assert sentence(address, other.file).startswith(refused)
            monkeypatch.delenv(variable)
    assert len(asked) == 6 and set(asked) == {None}  # no password went to a server that was not trusted


def test_another_name_and_another_time_have_their_own_remedy(authority: Authority, tmp_path: Path) -> None:
    with archive_over_tls(*authority.sign(tmp_path, "pacs.example", "127.0.0.2")) as (port, asked):
        for host in ("localhost", "127.0.0.1"):
            address = f"https://{host}:{port}/dicom-web"
            assert sentence(address, authority.file) == (
                f"The certificate of {address} is for another name; give the address with a name that it holds."
            )
        assert asked == []
    for days in ((-9, -1), (1, 9)):
        with archive_over_tls(*authority.sign(tmp_path, "localhost", days=days)) as (port, asked):
            assert "is not valid now; have it renewed" in sentence(f"https://localhost:{port}", authority.file)
            assert asked == []


def test_a_port_without_tls_is_not_called_a_certificate(authority: Authority, tmp_path: Path) -> None:
    server = _Server(("127.0.0.1", 0), _Studies)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        address = f"https://localhost:{server.server_port}/dicom-web"
        assert sentence(address, authority.file) == f"{address} does not speak TLS; check the port."
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
    assert "cannot be reached" in sentence(address, authority.file)


def test_a_file_without_certificates_is_refused_before_anything_is_sent(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    _, key = authority.sign(tmp_path, "localhost")
    for path, reason in (
        (tmp_path / "absent.pem", "absent.pem"),
        (tmp_path / "empty.pem", "holds no certificates"),
        (key, "holds no certificates"),
        (tmp_path, str(tmp_path)),
    ):
        assert reason in sentence("https://localhost:1", path)
    for variable in reversed(BUNDLES):
        for name in ("absent.pem", "empty.pem"):
            monkeypatch.setenv(variable, str(tmp_path / name))
            assert sentence("https://localhost:1", None).startswith(f"The variable {variable} names {tmp_path / name}")
            assert "cannot be reached" in sentence("https://localhost:1", authority.file)
