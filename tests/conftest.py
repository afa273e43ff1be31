"""Fixtures shared by all tests."""

from __future__ import annotations

import os
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
