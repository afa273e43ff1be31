"""A CT in Hounsfield units, given to the starter's task that learned from windowed pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.evaluation import dice
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import load_model

pytestmark = pytest.mark.real
LIVER, KIDNEYS = (5,), (2, 3)  # of the reference's 117 classes


def test_liver_and_kidneys_are_found_at_the_window_of_the_plan_and_the_result_says_so(shared_data: Path) -> None:
    folder = shared_data / "Dataset301_Geometry"
    image = read_image(folder / "ct_sm.nii.gz")
    organs = read_labels(folder / "ct_organs_reference.nii.gz").array[0]
    model = load_model("starter")
    assert model.info.plan_of("abdomen").hu_window == (-38.0, 312.0)
    result = Predictor(model, device="cpu", precision="fp32").segment(image, "abdomen")["abdomen"]
    found = result.labels.array[0]
    assert tuple(result.class_names)[:2] == ("liver", "kidney")
    assert dice((found == 1).astype(np.uint8), np.isin(organs, LIVER).astype(np.uint8), 1) >= 0.88
    # the CT is unenhanced, the training's pictures are enhanced
    assert dice((found == 2).astype(np.uint8), np.isin(organs, KIDNEYS).astype(np.uint8), 1) >= 0.5
    assert any(finding.code == "intensity_window" for finding in result.findings)
