"""Predictions of imported models against what nnU-Net 2.8.1 predicted: preprocessing, windows, mirroring, export."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_samples import CASES, sample_image

from meduniseg_core.images import Image
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.importers import NnunetOptions, import_nnunet
from meduniseg_core.inference import Predictor
from meduniseg_core.model import build_model
from meduniseg_core.preprocessing import preprocess
from meduniseg_core.weights import Model

MODELS = Path(__file__).parent / "models"
NAMES = sorted(path.name for path in MODELS.iterdir())


@cache
def loaded(name: str) -> Model:
    imported = import_nnunet(MODELS / name, NnunetOptions(name=name))
    network = build_model(imported.info.config)
    network.load_state_dict(imported.state_dict)
    return Model(imported.info, network.eval(), "0" * 64)


def sample(name: str, case: str) -> Image:
    plan, facts = loaded(name).info.tasks[0], CASES[case]
    ct = plan.normalisation[0] == "ct"
    array = sample_image(facts["shape"], facts["spacing"], channels=len(plan.channels), ct=ct)
    columns = np.array(facts["directions"]).T[:, ::-1]  # of the array's axes: z, y, x
    rows = [tuple(float(value) for value in row) for row in columns]
    geometry = Geometry(facts["shape"], facts["spacing"], (3.0, -7.0, 11.0), (rows[0], rows[1], rows[2]))  # type: ignore[arg-type]
    return Image(array, geometry)


def expected(name: str) -> Any:
    return np.load(MODELS / name / "expected.npz")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_is_nnunet_s(name: str, case: str) -> None:
    data = preprocess(sample(name, case), loaded(name).info.tasks[0]).data
    with expected(name) as theirs:
        assert data.shape == tuple(theirs[f"{case}_shape"])
        thinned = data[:, ::3, ::3, ::3]
        assert np.abs(thinned - theirs[f"{case}_data"]).max() < 2e-4


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_nnunet_s(name: str, case: str, tta: bool) -> None:
    model = loaded(name)
    task = model.info.tasks[0].task
    result = Predictor(model, "cpu", "fp32").segment(sample(name, case), task, tta=tta)[task]
    with expected(name) as theirs:
        labels = theirs[f"{case}_labels{'_tta' if tta else ''}"]
    ours = result.labels.array[0]
    assert ours.shape == labels.shape
    foreground = (ours > 0) | (labels > 0)
    if not foreground.any():
        pytest.skip("nothing is found")
    assert (ours == labels)[foreground].mean() >= 0.999
