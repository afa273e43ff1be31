"""``meduniseg dicom`` against a real Orthanc: pull, segment, push, and the results are found under their study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "dicom_objects"))
sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "pacs"))
from orthanc_server import PASSWORD, USER, needs_orthanc, orthanc
from series_making import oblique
from series_making import write_volume as write_series

from meduniseg_core.images import Image

pytest.importorskip("dicomweb_client")
pytest.importorskip("highdicom")


@needs_orthanc
def test_pull_segment_push(meduniseg: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = oblique((20, 36, 40), (2.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(0).normal(100, 30, (1, 20, 36, 40)).astype(np.int16)
    series = write_series(tmp_path / "ct", Image(values, volume.geometry), Modality="MR")
    study = str(pydicom.dcmread(next(series.iterdir())).StudyInstanceUID)
    with orthanc(tmp_path / "orthanc") as address:
        refused = meduniseg("dicom", "studies", address)
        assert refused.returncode == 3 and "meduniseg dicom login" in refused.stderr
        monkeypatch.setenv("MEDUNISEG_DICOMWEB_USER", USER)
        monkeypatch.setenv("MEDUNISEG_DICOMWEB_PASSWORD", PASSWORD)
        assert meduniseg("dicom", "push", address, series).returncode == 0
        found = json.loads(meduniseg("dicom", "studies", address, "--patient-id", "4711", "--json").stdout)
        assert [one["uid"] for one in found["studies"]] == [study]
        pulled = meduniseg("dicom", "pull", address, "--study", study, "-o", tmp_path / "in", "--json")
        assert pulled.returncode == 0, pulled.stderr
        (folder,) = json.loads(pulled.stdout)["folders"]
        run = ("segment", folder, "--model", tiny_model, "--task", "vessel,organ", "--format", "dicom-seg")
        assert meduniseg(*run, "-o", tmp_path / "out").returncode == 0
        pushed = meduniseg("dicom", "push", address, tmp_path / "out", "--json")
        assert pushed.returncode == 0, pushed.stderr
        there = json.loads(meduniseg("dicom", "series", address, "--study", study, "--json").stdout)["series"]
        assert {one["modality"]: one["instances"] for one in there} == {"MR": 20, "SEG": 1}
        wrong = meduniseg("dicom", "pull", address, "--study", study, "--series", "PET", "-o", tmp_path / "in")
        assert wrong.returncode == 2 and "has no series 'PET'; it has: MR" in wrong.stderr
        monkeypatch.setenv("MEDUNISEG_DICOMWEB_PASSWORD", "wrong")
        refused = meduniseg("dicom", "push", address, tmp_path / "out")
        assert refused.returncode == 3 and "refuses the user or password" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1 and "wrong" not in refused.stderr


def test_certificates_are_named_by_files(meduniseg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    from studies_server import STUDY, archive_over_tls

    from tests.certificate_making import Authority

    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    authority = Authority.in_folder(tmp_path)
    certificate, key = authority.sign(tmp_path, "reader")
    with archive_over_tls(*authority.sign(tmp_path, "localhost"), clients=authority.file) as (port, _):
        ask = ("dicom", "studies", f"https://localhost:{port}/dicom-web", "--json")
        shown = ("--certificate", certificate, "--key", key)
        found = meduniseg(*ask, "--ca", authority.file, *shown)
        assert found.returncode == 0 and json.loads(found.stdout)["studies"][0]["uid"] == STUDY, found.stderr
        for options, code, said in (
            (shown, 3, "name its authority's file (--ca"),
            (("--ca", authority.file), 3, "give a certificate with its key (--certificate and --key"),
            (("--ca", authority.file, "--key", key), 2, "name its file, too"),
            (("--ca", authority.file, "--certificate", certificate), 2, "and the key that belongs to it"),
        ):
            refused = meduniseg(*ask, *options)
            assert refused.returncode == code and said in refused.stderr, refused.stderr
            assert len(refused.stderr.strip().splitlines()) == 1
