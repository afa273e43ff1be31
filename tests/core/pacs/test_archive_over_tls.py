"""Archives over TLS: whom the client trusts, and the one sentence for each certificate that it refuses."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
from studies_server import STUDY, Server, Studies, archive_over_tls

from meduniseg_core.errors import BadInputError, UsageError

pytest.importorskip("cryptography")
pytest.importorskip("dicomweb_client")

from meduniseg_core.pacs import Certificates, Credentials, DicomArchive
from tests.certificate_making import Authority

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for variable in BUNDLES:
        monkeypatch.delenv(variable, raising=False)
    return Authority.in_folder(tmp_path)


def sentence(address: str, ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> str:
    with pytest.raises((BadInputError, UsageError)) as caught:
        DicomArchive(
            address, Credentials("the test", "reader", "secret word"), Certificates(ca, certificate, key)
        ).studies()
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
            (found,) = DicomArchive(address, certificates=Certificates(authority.file)).studies()
            assert found.uid == STUDY
            refused = f"The certificate of {address} cannot be verified (unable to get local issuer certificate); "
            assert sentence(address, None) == (
                f"{refused}name its authority's file (--ca, Authority in the Archive panel, or the variable "
                "REQUESTS_CA_BUNDLE)."
            )
            assert sentence(address, other.file).startswith(refused)
        # what is named for this command goes before what the environment names for all
        for variable in BUNDLES:
            monkeypatch.setenv(variable, str(other.file))
            assert DicomArchive(address, certificates=Certificates(authority.file)).studies()
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
    server = Server(("127.0.0.1", 0), Studies)
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


WANTED = "give a certificate with its key (--certificate and --key, or in the Archive panel)"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_archive_that_asks_its_clients_for_a_certificate_is_shown_one(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    certificate, key = authority.sign(tmp_path, "reader")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    strange = Authority.in_folder(tmp_path, "other").sign(tmp_path, "stranger")
    late = authority.sign(tmp_path, "late", days=(-9, -1))
    server = authority.sign(tmp_path, "localhost")
    with archive_over_tls(*server, clients=authority.file, version=version) as (port, asked):
        address = f"https://localhost:{port}/dicom-web"
        for files in (Certificates(authority.file, certificate, key), Certificates(authority.file, both)):
            assert DicomArchive(address, certificates=files).studies()
        assert len(asked) == 2
        for shown in ((None, None), strange, late):
            said = sentence(address, authority.file, *shown)
            assert WANTED in said and said.startswith(address), said
        assert len(asked) == 2  # no password went to a server that had not let us in
        other = sentence(address, tmp_path / "other.pem", certificate, key)
        assert other.startswith(f"The certificate of {address} cannot be verified")


def test_a_certificate_that_cannot_be_shown_is_refused_before_anything_is_sent(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.sign(tmp_path, "reader")
    locked = authority.sign(tmp_path, "locked", password=b"hidden")
    both = tmp_path / "locked_both.pem"
    both.write_bytes(locked[0].read_bytes() + locked[1].read_bytes())
    remedy = "give a certificate (PEM) and the key that belongs to it, without a password."
    for shown, reason in (
        ((certificate, locked[1]), remedy),
        (locked, remedy),
        ((both, None), remedy),
        ((certificate, None), remedy),  # has no key in it
        ((key, certificate), remedy),
        ((authority.file, key), remedy),
        ((tmp_path / "absent.crt", key), "absent.crt"),
        ((certificate, tmp_path / "absent.key"), "absent.key"),
        ((None, key), f"The key {key} belongs to a certificate; name its file, too."),
    ):
        assert reason in sentence("https://localhost:1", authority.file, *shown)
