"""A real Orthanc over TLS that asks its clients for a certificate: series come, results go, and what fails is said."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from orthanc_server import PASSWORD, USER, breaking_line, needs_orthanc, orthanc

sys.path.insert(0, str(Path(__file__).parents[1] / "dicom_objects"))
from series_making import blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, place_labels, read_image, read_labels

pytest.importorskip("cryptography")
pytest.importorskip("dicomweb_client")
pytest.importorskip("highdicom")

from meduniseg_core.pacs import Certificates, Credentials, DicomArchive, pull, push
from tests.certificate_making import Authority

SHAPE = (7, 40, 44)
WHO = Credentials("the test", USER, PASSWORD)


@needs_orthanc
def test_series_and_results_pass_and_a_line_that_breaks_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    authority, other = Authority.in_folder(tmp_path), Authority.in_folder(tmp_path, "other")
    files = Certificates(authority.file, *authority.sign(tmp_path, "reader"))
    volume = oblique(SHAPE, (3.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(3).integers(-100, 300, (1, *SHAPE)).astype(np.int16)
    series = write_volume(tmp_path / "series", Image(values, volume.geometry))
    image, labels = read_image(series), blobs(SHAPE)
    result = tmp_path / "case.seg.dcm"
    for name, write in dicom_writers([labelled(image, labels)], result).items():
        write(tmp_path / name)
    study = str(pydicom.dcmread(result).StudyInstanceUID)
    server = authority.sign(tmp_path, "localhost", "127.0.0.1")
    with orthanc(tmp_path / "orthanc", server, clients=authority.file) as address:
        for refused, said in (
            (Certificates(), "cannot be verified"),
            (Certificates(other.file, files.certificate, files.key), "cannot be verified"),
            (Certificates(authority.file), "give a certificate with its key"),
            (Certificates(authority.file, *other.sign(tmp_path, "stranger")), "give a certificate with its key"),
        ):
            with pytest.raises(BadInputError, match=said) as caught:
                push(DicomArchive(address, WHO, refused), [result])
            assert PASSWORD not in str(caught.value) and "nothing was stored" in str(caught.value)
        archive = DicomArchive(address, WHO, files)
        size = result.stat().st_size
        for broken in (300, 4_000, size // 2):
            with breaking_line(address, up=broken) as line:
                with pytest.raises(
                    BadInputError, match=r"case.seg.dcm was not stored: .* nothing was stored\.$"
                ) as cut:
                    push(DicomArchive(line, WHO, files), [result])
                assert "cannot be verified" not in str(cut.value)
            assert not archive.studies(), broken
        push(archive, sorted(series.iterdir()))
        push(archive, [result])
        there = {one.modality: one for one in archive.series(study)}
        assert set(there) == {"CT", "SEG"}
        whole = sum(path.stat().st_size for path in series.iterdir())
        for broken in (2_000, 6_000, whole // 2, whole):
            gone = pytest.raises(BadInputError, match=r"ended the connection|went away")
            with breaking_line(address, down=broken) as line, gone:
                pull(DicomArchive(line, WHO, files), there["CT"], tmp_path / "pulled")
            assert not (tmp_path / "pulled").exists() or not list((tmp_path / "pulled").iterdir()), broken
        pulled = read_image(pull(archive, there["CT"], tmp_path / "pulled"))
        assert np.array_equal(pulled.array, image.array)
        back = pull(archive, there["SEG"], tmp_path / "pulled")
        assert np.array_equal(place_labels(read_labels(next(back.iterdir()), like=image), image).array[0], labels)
        with pytest.raises(BadInputError, match="refuses the user or password"):
            DicomArchive(address, Credentials("the test", USER, "wrong"), files).studies()
