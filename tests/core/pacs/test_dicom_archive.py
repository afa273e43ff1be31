"""Series from a real Orthanc and results to it: whole, or not at all, and what fails is one sentence."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from orthanc_server import PASSWORD, USER, breaking_line, needs_orthanc, orthanc

sys.path.insert(0, str(Path(__file__).parents[1] / "dicom_objects"))
from series_making import blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.events import CancelToken
from meduniseg_core.images import Image, place_labels, read_image, read_labels

pytest.importorskip("dicomweb_client")
pytest.importorskip("highdicom")

from meduniseg_core.pacs import Credentials, DicomArchive, credentials_for, pull, push
from meduniseg_core.pacs.archive import check_address

SHAPE = (7, 40, 44)
WHO = Credentials("the test", USER, PASSWORD)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture
def series(tmp_path: Path) -> Path:
    volume = oblique(SHAPE, (3.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(3).integers(-100, 300, (1, *SHAPE)).astype(np.int16)
    return write_volume(tmp_path / "series", Image(values, volume.geometry))


def stored(folder: Path) -> tuple[str, str]:
    one = pydicom.dcmread(next(folder.iterdir()))
    return str(one.StudyInstanceUID), str(one.SeriesInstanceUID)


@needs_orthanc
def test_a_series_comes_and_its_results_are_found_under_its_study(
    tmp_path: Path, series: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    archive = DicomArchive(address, WHO)
    study, uid = stored(series)
    push(archive, sorted(series.iterdir()))
    (found,) = [one for one in archive.studies(PatientID="4711") if one.uid == study]
    assert (found.patient, found.date) == ("Müller^Änne", "20200102")
    (there,) = archive.series(study)
    assert (there.uid, there.modality, there.instances) == (uid, "CT", SHAPE[0])
    folder = pull(archive, there, tmp_path / "pulled")
    image, before = read_image(folder), read_image(series)
    assert np.array_equal(image.array, before.array) and image.sha256 == before.sha256
    labels = blobs(SHAPE)
    for name, write in dicom_writers([labelled(image, labels)], tmp_path / "case.sr.dcm").items():
        write(tmp_path / name)
    push(archive, [tmp_path / "case.sr.dcm", tmp_path / "case.seg.dcm"])
    kinds = {one.modality: one for one in archive.series(study)}
    assert set(kinds) == {"CT", "SEG", "SR"}
    back = pull(archive, kinds["SEG"], tmp_path / "pulled")
    assert np.array_equal(place_labels(read_labels(next(back.iterdir()), like=image), image).array[0], labels)
    with pytest.raises(BadInputError, match="exists already"):
        pull(archive, there, tmp_path / "pulled")
    assert PASSWORD not in caplog.text and PASSWORD not in repr(archive.__dict__) + repr(WHO)


@needs_orthanc
def test_a_wrong_password_is_one_sentence(series: Path, address: str, tmp_path: Path) -> None:
    study, _ = stored(series)
    for who, said in (
        (Credentials("the test", USER, "wrong"), "refuses the user or password"),
        (None, "requires a login"),
    ):
        archive = DicomArchive(address, who)
        for act in (archive.studies, lambda a=archive: push(a, sorted(series.iterdir()))):
            with pytest.raises(BadInputError, match=said) as caught:
                act()
            assert "wrong" not in str(caught.value) and str(caught.value).count("\n") == 0
    assert study not in [one.uid for one in DicomArchive(address, WHO).studies()]


@needs_orthanc
def test_a_line_that_breaks_leaves_nothing_half(
    tmp_path: Path, series: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive, (study, _) = DicomArchive(address, WHO), stored(series)
    image = read_image(series)
    for name, write in dicom_writers([labelled(image, blobs(SHAPE))], tmp_path / "case.seg.dcm").items():
        write(tmp_path / name)
    size = (tmp_path / "case.seg.dcm").stat().st_size
    for broken in (300, size // 2, size - 10):
        with breaking_line(address, up=broken) as line:
            with pytest.raises(BadInputError, match=r"case.seg.dcm was not stored: .* nothing was stored\.$"):
                push(DicomArchive(line, WHO), [tmp_path / "case.seg.dcm"])
            assert "Traceback" not in caplog.text
            assert study not in [one.uid for one in archive.studies()], broken
    push(archive, sorted(series.iterdir()))
    (there,) = archive.series(study)
    whole = sum(path.stat().st_size for path in series.iterdir())
    for broken in (4_000, whole // 2, whole - 2_000):  # in the headers, in the midst, in the last image
        with breaking_line(address, down=broken) as line:
            with pytest.raises(BadInputError, match="went away before its answer was whole"):
                pull(DicomArchive(line, WHO), there, tmp_path / "pulled")
            assert not list((tmp_path / "pulled").iterdir()), broken
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        pull(archive, there, tmp_path / "pulled", cancel=cancel)
    assert not list((tmp_path / "pulled").iterdir())


def test_an_archive_that_is_not_there_is_one_sentence(tmp_path: Path, series: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be reached"):
        DicomArchive("http://127.0.0.1:9/dicom-web", WHO).studies()
    (tmp_path / "x.dcm").write_bytes(b"no object")
    with pytest.raises(BadInputError, match=r"x.dcm is not a complete DICOM object"):  # before anything is sent
        push(DicomArchive("http://127.0.0.1:9/dicom-web", WHO), [*sorted(series.iterdir()), tmp_path / "x.dcm"])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        nowhere = pydicom.dcmread(next(series.iterdir()))
        setattr(nowhere, keyword, "")
        nowhere.save_as(tmp_path / "nowhere.dcm")
        with pytest.raises(BadInputError, match=rf"nowhere.dcm has no valid {keyword}, by which"):
            push(DicomArchive("http://127.0.0.1:9/dicom-web", WHO), [tmp_path / "nowhere.dcm"])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://pacs.example/dicom-web", "unencrypted"),
        ("https://me:word@pacs.example/dicom-web", "must not hold a user or password"),
        ("ftp://pacs.example", "is not an archive's address"),
        ("pacs.example", "is not an archive's address"),
        ("https://[::1", "is not an archive's address"),
    ],
)
def test_addresses_that_would_leak_are_refused(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check_address(address)
    assert "word" not in str(caught.value).replace("password", "")


def test_credentials_come_from_environment_or_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    kept: dict[str, tuple[str, str]] = {}

    class Kept(keyring.backend.KeyringBackend):  # type: ignore[misc,name-defined]
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get(service, ("", None))[1]

        def get_credential(self, service: str, username: str | None) -> object:
            found = kept.get(service)
            return None if found is None else keyring.credentials.SimpleCredential(*found)

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service] = username, password

    from meduniseg_core.pacs import keep_credentials

    before = keyring.get_keyring()
    keyring.set_keyring(Kept())
    try:
        for name in ("USER", "PASSWORD", "TOKEN"):
            monkeypatch.delenv(f"MEDUNISEG_DICOMWEB_{name}", raising=False)
        address = "https://pacs.example/dicom-web"
        assert credentials_for(address) is None
        keep_credentials(address, "me", "hidden")
        found = credentials_for(address)
        assert found is not None and (found.user, found.password) == ("me", "hidden") and "hidden" not in repr(found)
        assert credentials_for("https://other.example/dicom-web") is None
        monkeypatch.setenv("MEDUNISEG_DICOMWEB_USER", "you")
        with pytest.raises(UsageError, match="belong together"):
            credentials_for(address)
        monkeypatch.setenv("MEDUNISEG_DICOMWEB_PASSWORD", "shown")
        told = credentials_for(address)
        assert told is not None and (told.user, told.password) == ("you", "shown")
    finally:
        keyring.set_keyring(before)


def test_an_archive_that_does_not_answer_is_said_in_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(BadInputError, match=r"cannot be reached, or went away \(connection refused\)"):
        DicomArchive(address).series("1.2")
