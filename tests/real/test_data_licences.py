"""The model's licence follows from its data's, and the table of those says what the data sets say."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

STARTER = Path(__file__).resolve().parents[2] / "experiments" / "starter"


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", STARTER / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_starters_configuration_carries_the_licence_that_its_data_give(licences: ModuleType) -> None:
    config = tomllib.loads((STARTER / "sixteen.toml").read_text("utf-8"))
    rows = licences.read_licences()
    assert config["licence"] == licences.derived(rows)
    assert [Path(folder).name for folder in config["datasets"]] == [row.dataset for row in rows]


def test_the_strictest_term_decides_and_names_its_tasks(licences: ModuleType) -> None:
    free, strict = licences.read_licences()[1], licences.read_licences()[4]
    assert "only" not in licences.derived([free])
    assert f"for research only ({strict.task})" in licences.derived([free, strict])


@pytest.mark.real
def test_every_row_says_what_its_data_set_says(licences: ModuleType, shared_data: Path) -> None:
    for row in licences.read_licences():
        said = json.loads((shared_data / row.dataset / "dataset.json").read_text("utf-8"))
        assert (row.task, row.licence, row.source) == (said["task"], said["licence"], said["source"])
