"""``meduniseg doctor``: what is there, and what is missing for the window."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata

import pytest
import torch

from meduniseg_core.model import compute
from training_cli.doctor import examine
from training_cli.main import main


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe of the CPU takes seconds; it has tests of its own."""
    monkeypatch.setattr(compute, "probe_cpu", lambda: {"ratio": 40.0})


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An environment that lacks distributions."""
    known = metadata.version

    def lacking(*names: str) -> None:
        def version(name: str) -> str:
            if name in names:
                raise metadata.PackageNotFoundError(name)
            return known(name)

        monkeypatch.setattr(metadata, "version", version)

    return lacking


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["doctor"]) == 0
    pairs = (line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    return {name.strip(): text.strip() for name, text in pairs}


def test_the_viewer_is_told_with_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("napari")
    viewer = shown(capsys)["viewer"]
    assert f"napari {metadata.version('napari')}" in viewer and "panel installed" in viewer and "missing" not in viewer


def test_a_missing_viewer_is_told_with_what_brings_it(without: Callable[..., None], capsys) -> None:
    without("napari")
    lines = shown(capsys)
    assert lines["viewer"].startswith("napari is not installed") and "napari-meduniseg[napari]" in lines["viewer"]
    assert "napari not installed" in lines["versions"]


@pytest.mark.parametrize(
    ("gone", "missing"), [(("magicgui",), ["magicgui"]), (("PySide6", "PyQt6", "PyQt5"), ["PySide6"])]
)
def test_a_window_that_could_not_open_is_told(gone: tuple[str, ...], missing: list[str], without) -> None:
    without(*gone)
    viewer = examine()["viewer"]
    assert viewer["missing"] == missing and not viewer["usable"]


def test_every_gpu_is_listed_by_the_name_that_device_takes(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    class Card:
        name, total_memory = "Card", 8 * 2**30

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: Card)
    assert shown(capsys)["accelerators"] == "cuda:0 Card (8 GiB), cuda:1 Card (8 GiB)"
    assert main(["doctor", "--json"]) == 0
    devices = [device["name"] for device in json.loads(capsys.readouterr().out)["devices"]]
    assert devices[:3] == ["cpu", "cuda:0", "cuda:1"]


def test_a_slow_half_precision_is_a_number_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys)["bf16 on the CPU"].startswith("0.025 times")
