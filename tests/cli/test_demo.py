"""``scripts/demo.py`` with a tiny model in place of the starter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as PillowImage
from small_inputs import write_volume

from meduniseg_core import load_model
from meduniseg_core.inference import Predictor
from training_cli.session import work

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module
    spec.loader.exec_module(module)
    return module


def test_the_photograph_needs_no_download_and_becomes_labels_and_a_picture(demo, tiny_model, tmp_path) -> None:
    example = demo.photograph(tmp_path)
    with work("none") as session:
        result = demo.show(example, Predictor(load_model(tiny_model), "cpu", "fp32"), tmp_path, session)
    assert [row["name"] for row in result.report["classes"]] == ["disc", "cup"]
    assert np.array(PillowImage.open(result.path)).shape == (1411, 1411)
    assert np.array(PillowImage.open(tmp_path / "retina_overlay.png")).shape == (1411, 1411, 3)


def test_volumes_are_shown_where_the_development_images_are(demo, tmp_path) -> None:
    assert demo.volumes(tmp_path) == []
    folder = tmp_path / "data" / "Dataset101_Hippocampus" / "imagesTs"
    folder.mkdir(parents=True)
    path = write_volume(folder / "case_0000.nii.gz")
    assert demo.volumes(tmp_path) == [demo.Example("case", "hippocampus", path)]
