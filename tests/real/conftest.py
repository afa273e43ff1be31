"""What the tests on real files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cases(shared_data: Path) -> Path:
    """The situations of real users (``cases`` beside the real images)."""
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("the cases are not here")
    return folder
