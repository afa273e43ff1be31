"""What ``meduniseg napari`` sets in napari: files open without a question, and one of napari's notices is left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from napari.utils.notifications import notification_manager, show_warning

from napari_meduniseg import _session


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """napari's choice of readers, the user's own file of settings left alone."""
    plugins = SimpleNamespace(extension2reader={})
    monkeypatch.setattr(_session, "get_settings", lambda: SimpleNamespace(plugins=plugins))
    return plugins


def test_medical_files_open_without_a_question_except_where_the_user_has_chosen(readers: Any) -> None:
    from napari.plugins import utils

    readers.extension2reader = {"*.gz": "another", "*.png": "napari"}
    _session.read_without_asking()
    found = readers.extension2reader
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "get_settings", lambda: SimpleNamespace(plugins=readers))
        assert utils.get_preferred_reader("/data/scan.nii") == "napari-meduniseg"
        assert utils.get_preferred_reader("/data/photo.jpg") == "napari-meduniseg"
        assert utils.get_preferred_reader("/data/scan.nii.gz") == "another"
        assert utils.get_preferred_reader("/data/photo.png") == "napari"
        assert utils.get_preferred_reader("/data/table.csv") is None
        assert utils.get_preferred_reader("/data/IM000001") is None  # of files without an ending napari asks
    _session.read_without_asking()
    assert readers.extension2reader == found


def test_files_of_nifti_gz_open_without_a_question(readers: Any) -> None:
    _session.read_without_asking()
    assert readers.extension2reader["*.nii.gz"] == "napari-meduniseg"


def test_the_notice_of_units_is_left_out_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda notification: shown.append(notification.message))
    _session.leave_out_the_notice_of_units()
    show_warning("Inconsistent units across layers; units will not be used for rendering.")  # as napari's canvas says
    show_warning("The disk is full.")
    assert shown == ["The disk is full."]
