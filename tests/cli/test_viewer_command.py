"""``meduniseg napari``: what is said where there is no napari, and what opens where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_inputs import write_volume

from training_cli import viewer
from training_cli.main import main


def test_without_napari_one_sentence_says_how_to_get_it(monkeypatch, capsys) -> None:
    monkeypatch.setattr(viewer, "is_installed", lambda package: False)
    assert main(("napari",)) == 2
    printed = capsys.readouterr().err
    assert "pip install 'napari-meduniseg[napari]'" in printed and printed.count("\n") == 1


def test_a_bad_file_is_named_before_a_window_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("napari")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    assert main(("napari", str(write_volume(tmp_path / "good.nii.gz")), str(broken))) == 3
    assert str(broken.name) in capsys.readouterr().err
