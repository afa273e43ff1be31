"""The Archive panel in a real viewer against a real Orthanc: search, open a series, send labels back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "dicom_objects"))
sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "pacs"))
from orthanc_server import PASSWORD, USER, needs_orthanc, orthanc
from series_making import oblique, write_volume

from meduniseg_core.images import Image
from napari_meduniseg.widgets.opening import open_panel

pytest.importorskip("dicomweb_client")
pytest.importorskip("highdicom")

from meduniseg_core.pacs import Credentials, DicomArchive, push

WAIT = 60_000
SHAPE = (7, 40, 44)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DicomArchive]:
    volume = oblique(SHAPE, (3.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(3).integers(-100, 300, (1, *SHAPE)).astype(np.int16)
    series = write_volume(tmp_path / "series", Image(values, volume.geometry))
    with orthanc(tmp_path / "orthanc") as address:
        found = DicomArchive(address, Credentials("the test", USER, PASSWORD))
        push(found, sorted(series.iterdir()))
        yield found


@needs_orthanc
def test_a_series_is_opened_and_its_labels_are_sent_back(
    gui: Any, qtbot: Any, archive: DicomArchive, tmp_path: Path
) -> None:
    panel: Any = open_panel(gui, "Archive")

    def until_done() -> None:
        qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)

    panel.search()
    assert "is not an archive's address" in panel.said.text()
    panel.address.setText(archive.address)
    panel.user.setText(USER)
    panel.password.setText("wrong")
    panel.search()
    until_done()
    assert "refuses the user or password" in panel.said.text() and "wrong" not in panel.said.text()
    panel.password.setText(PASSWORD)
    panel.patient.setText("4711")
    panel.search_button.click()
    until_done()
    assert panel.said.text() == "1 study." and panel.tree.topLevelItemCount() == 1
    study = panel.tree.topLevelItem(0)
    assert study.text(1) == "Müller^Änne 4711"
    panel.tree.setCurrentItem(study)
    panel.open_button.click()
    until_done()
    assert study.childCount() == 1 and study.child(0).text(2).endswith("(7 images)")
    panel.tree.setCurrentItem(study.child(0))
    panel.open_button.click()
    assert "Choose a folder" in panel.said.text()
    panel.folder.setText(str(tmp_path))
    panel.open_button.click()
    until_done()
    assert panel.said.text().startswith("Opened CT_4_"), panel.said.text()
    layer = gui.layers[0]
    panel.send_button.click()
    assert "There are no labels" in panel.said.text()
    labels = np.zeros(layer.data.shape, np.uint8)
    labels[2:4, 5:20, 6:24] = 1
    gui.add_labels(labels, name="by hand", scale=layer.scale, translate=layer.translate, rotate=layer.rotate)
    gui.layers["by hand"].affine = layer.affine
    qtbot.waitUntil(lambda: panel._current.labels is gui.layers["by hand"], timeout=WAIT)
    panel.send_button.click()
    until_done()
    assert panel.said.text().startswith("Sent ") and panel.said.text().endswith("the archive has it."), (
        panel.said.text()
    )
    kinds = {one.modality for one in archive.series(archive.studies()[0].uid)}
    assert kinds == {"CT", "SEG"}


def test_certificates_are_chosen_as_files(
    gui: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from qtpy.QtWidgets import QFileDialog, QPushButton
    from studies_server import STUDY, archive_over_tls

    from tests.certificate_making import Authority

    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    authority = Authority.in_folder(tmp_path)
    certificate, key = authority.sign(tmp_path, "reader")
    panel: Any = open_panel(gui, "Archive")

    def choose(field: Any, path: Path) -> None:
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
        field.parent().findChild(QPushButton).click()
        assert field.text() == str(path)

    def searched() -> str:
        panel.search_button.click()
        qtbot.waitUntil(lambda: not panel.busy, timeout=WAIT)
        return str(panel.said.text())

    with archive_over_tls(*authority.sign(tmp_path, "localhost"), clients=authority.file) as (port, _):
        panel.address.setText(f"https://localhost:{port}/dicom-web")
        assert "cannot be verified" in searched() and "Authority in the Archive panel" in searched()
        panel.certificates.expand(animate=False)
        choose(panel.authority, authority.file)
        assert "give a certificate with its key" in searched()
        choose(panel.key, key)
        assert "name its file, too" in searched()
        choose(panel.certificate, certificate)
        assert searched() == "1 study."
    assert STUDY in [panel.tree.topLevelItem(0).data(0, 256).uid]
