"""What we write, judged by dciodvfy (of dicom3tools), which checks every module of the standard."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from series_making import blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.images import read_image

pytest.importorskip("highdicom")
VALIDATOR = shutil.which("dciodvfy")


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy is not installed (Debian package dicom3tools)")
@pytest.mark.parametrize("kind", ["files", "frames"])
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    image = read_image(
        write_volume(tmp_path / "s", oblique((5, 12, 15), (2, 1, 1), [[0, 0, 1], [0, 1, 0], [1, 0, 0]]), kind)
    )
    for ending in (".sr.dcm", ".rtstruct.dcm"):
        for name, write in dicom_writers([labelled(image, blobs((5, 12, 15)))], tmp_path / f"case{ending}").items():
            write(tmp_path / name)
            judged = subprocess.run([str(VALIDATOR), tmp_path / name], capture_output=True, text=True, timeout=60)
            assert "Error" not in judged.stdout + judged.stderr, judged.stderr
