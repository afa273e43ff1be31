"""Fixtures of the plugin's tests: logic runs on ``ViewerModel``, what a user walks on a real viewer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari", reason="napari is not installed here; scripts/test.sh installs it where it can")

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))
from small_inputs import save_tiny_model

HAS_SCREEN = bool(os.environ.get("DISPLAY")) or sys.platform in ("win32", "darwin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """napari and Qt warn about themselves; what needs a window is skipped where there is no screen."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.filterwarnings("default"))
        if "gui_screen" in getattr(item, "fixturenames", ()) and not HAS_SCREEN:
            item.add_marker(pytest.mark.skip(reason="no screen; run under xvfb-run (scripts/test.sh does)"))


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from meduniseg_core.weights import Registry

    home = tmp_path_factory.mktemp("plugin_home")
    Registry(home / "models").import_file(save_tiny_model(home / "incoming.safetensors"))
    return home


@pytest.fixture
def tiny_home(_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder that holds the model ``tiny``: organ and vessel (MR), disc_cup (photographs)."""
    from napari_meduniseg._collections import _elsewhere

    monkeypatch.setenv("MEDUNISEG_HOME", str(_home))
    _elsewhere.cache_clear()  # folders that another test added
    for file in (_home / "last_modalities.json", *_home.glob("run_times_*.json")):  # of another test
        file.unlink(missing_ok=True)
    return _home


@pytest.fixture
def gui_screen() -> Iterator[None]:
    """For tests that open a window. Afterwards no OpenGL context is current.

    vispy makes one current for a window that is not shown, as windows of tests are not. Python may take it away later
    in another thread (a server's, say): Qt does not notice, and uses it once more when the process ends (code 139).
    """
    yield
    from qtpy.QtGui import QOpenGLContext

    left = QOpenGLContext.currentContext()
    if left is not None:
        left.doneCurrent()


@pytest.fixture
def gui(gui_screen: None, tiny_home: Path, make_napari_viewer: Callable[..., Any]) -> Iterator[Any]:
    """A real napari viewer with a window."""
    viewer = make_napari_viewer()
    yield viewer
