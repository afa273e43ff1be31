"""The base that fine-tuning is tested with."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_network import plan, save_base

from meduniseg_core.weights import Model


@pytest.fixture
def base(tmp_path: Path) -> Model:
    """Of two tasks; random weights."""
    return save_base(tmp_path, plan("first", "xray", ("lung", "heart")), plan("second", "ultrasound", ("blob",)))
