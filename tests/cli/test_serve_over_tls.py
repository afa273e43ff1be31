"""``meduniseg serve`` with a certificate, and the client that the viewer uses: whom it trusts, and what it says."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_inputs import write_volume

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.serving.client import RemoteRequest, Server, segment_on_server

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")
requests = pytest.importorskip("requests")

from tests.certificate_making import Authority  # noqa: E402

TOKEN = "a token of the test"
REQUEST = RemoteRequest(("vessel",))


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("MEDUNISEG_TOKEN", TOKEN)
    return Authority.in_folder(tmp_path)


@pytest.fixture
def port(authority: Authority, process_environment: dict[str, str], tiny_model: Path, tmp_path: Path) -> Iterator[int]:
    """Of a server whose certificate is for ``localhost`` alone; it says nothing whatever its clients do."""
    certificate, key = authority.sign(tmp_path, "localhost")
    command = [sys.executable, "-m", "training_cli", "serve", "--port", "0", "--model", str(tiny_model)]
    command += ["--certificate", str(certificate), "--key", str(key)]
    environment = {**process_environment, "MEDUNISEG_TOKEN": TOKEN}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"Listening on https://127\.0\.0\.1:(\d+)", said)
        assert found, said + process.stderr.read()
        yield int(found.group(1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stderr.read() == ""


def test_labels_come_over_tls_from_a_server_that_is_trusted_only(
    meduniseg: Any,
    tiny_model: Path,
    authority: Authority,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_volume(tmp_path / "mr.nii.gz")
    image = read_image(tmp_path / "mr.nii.gz")
    named, numbered = Server.at(f"https://localhost:{port}"), Server.at(f"https://127.0.0.1:{port}")
    with pytest.raises(BadInputError) as caught:
        segment_on_server(named, image, REQUEST)
    assert str(caught.value) == (
        f"The certificate of {named.address} cannot be verified (unable to get local issuer certificate); "
        "name its authority's file (PEM) in the variable REQUESTS_CA_BUNDLE."
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority.in_folder(tmp_path, "other").file))
    with pytest.raises(BadInputError, match="unable to get local issuer"):
        segment_on_server(named, image, REQUEST)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    with pytest.raises(BadInputError, match=r"is for another name; give the address with a name that it holds\.$"):
        segment_on_server(numbered, image, REQUEST)
    with socket.create_connection(("127.0.0.1", port)) as plain:  # one that does not speak TLS
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert TOKEN.encode() not in plain.recv(4096)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authority.file)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as line, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(line, server_hostname="localhost")

    wrong = Server(named.address, "another token of the test")
    with pytest.raises(UsageError, match="the token is missing or wrong"):
        segment_on_server(wrong, image, REQUEST)
    run = ("segment", tmp_path / "mr.nii.gz", "--model", tiny_model, "-o", tmp_path / "out", "--task", "vessel")
    assert meduniseg(*run).returncode == 0
    result = segment_on_server(named, image, REQUEST)["vessel"]
    assert np.array_equal(result.labels.array, read_labels(tmp_path / "out" / "mr.nii.gz").array)
    assert result.execution is not None and named.address in result.execution


def test_certificates_that_cannot_be_used_are_refused_before_it_listens(
    meduniseg: Any, tiny_model: Path, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.sign(tmp_path, "localhost")
    locked = authority.sign(tmp_path, "locked", password=b"secret word")
    (tmp_path / "empty.pem").write_text("")
    remedy = "give a certificate (PEM) and the key that belongs to it, without a password"
    for pair, reason in (
        ((tmp_path / "absent.pem", key), "absent.pem"),
        ((certificate, tmp_path / "absent.key"), "absent.key"),
        ((certificate, locked[1]), remedy),
        (locked, remedy),
        ((authority.file, key), remedy),
        ((key, certificate), remedy),
        ((tmp_path / "empty.pem", key), remedy),
    ):
        refused = meduniseg("serve", "--port", 0, "--model", tiny_model, "--certificate", pair[0], "--key", pair[1])
        assert refused.returncode in (2, 3) and reason in refused.stderr, refused.stderr
        assert "Listening" not in refused.stderr and "Traceback" not in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
