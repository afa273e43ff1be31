"""Inference is tested with an empty user's folder."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _private_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path_factory.mktemp("home")))
