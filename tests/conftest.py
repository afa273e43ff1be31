"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images (`MEDUNISEG_SHARED/data`, else `../shared/data`); tests skip where it is absent."""
    root = Path(os.environ.get("MEDUNISEG_SHARED", REPOSITORY.parent / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip("the real images are not here (set MEDUNISEG_SHARED to the folder that holds data/)")
    return data


@pytest.fixture
def older_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder as a version of November 2026 left it (tests/written_before/README.md)."""
    home = tmp_path / "older"
    with zipfile.ZipFile(REPOSITORY / "tests" / "written_before" / "data_folder_2026_11.zip") as archive:
        archive.extractall(home)
    for path in home.rglob("*.json"):
        path.write_text(path.read_text("utf-8").replace("@FOLDER@", json.dumps(str(home))[1:-1]), "utf-8")
    monkeypatch.setenv("MEDUNISEG_HOME", str(home))
    return home
