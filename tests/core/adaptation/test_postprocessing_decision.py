"""The decision which classes keep only their largest component."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_network import write_discs

from meduniseg_core.adaptation import postprocessing
from meduniseg_core.adaptation.postprocessing import ClassDecision, decide_postprocessing, with_decisions
from meduniseg_core.errors import UsageError
from meduniseg_core.images import Image, read_image
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.split import Split
from meduniseg_core.weights import Model


@pytest.fixture
def discs(tmp_path: Path) -> RawDataset:
    folder = write_discs(tmp_path / "discs")
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "blob": 1},
        "file_ending": ".png",
        "task": "second",
        "modality": "ultrasound",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return RawDataset.open(folder)


def predicts(monkeypatch: pytest.MonkeyPatch, found: Path, *, islands: bool) -> list[Model]:
    """A predictor that knows the truth, and adds an island to it or cuts a stripe out of it."""
    models: list[Model] = []

    class Known:
        def __init__(self, model: Model, *_: object) -> None:
            models.append(model)

        def segment(self, image: Image, task: str, **_: object) -> dict[str, SimpleNamespace]:
            array = (
                read_image(found / f"{image.name.removesuffix('_0000.png').removesuffix('.png')}.png").array[:1].copy()
            )
            rows = np.nonzero(array[0, 0].any(axis=1))[0]
            if islands:
                array[0, 0, 0, :3] = 1
            else:
                array[0, 0, int(rows.mean())] = 0
            return {task: SimpleNamespace(labels=image.with_array(array.astype(np.uint8)))}

    monkeypatch.setattr(postprocessing, "Predictor", Known)
    return models


@pytest.mark.parametrize("islands", [True, False])
def test_the_largest_component_is_kept_where_that_is_better(monkeypatch, base, discs, islands) -> None:
    models = predicts(monkeypatch, discs.folder / "labelsTr", islands=islands)
    (decision,) = decide_postprocessing(base, [discs])
    assert (decision.task, decision.name, decision.cases, decision.largest_only) == ("second", "blob", 6, islands)
    assert (decision.better, decision.worse) == ((6, 0) if islands else (0, 6))
    info = with_decisions(base.info, [discs], [decision])
    assert info.plan_of("second").largest_only == (("blob",) if islands else ())
    assert info.plan_of("first") == base.info.plan_of("first")
    assert models[0].info.plan_of("second").largest_only == ()


def test_what_was_trained_on_does_not_count(monkeypatch, base, discs) -> None:
    predicts(monkeypatch, discs.folder / "labelsTr", islands=True)
    names = [case.case for case in discs.cases("Tr")]
    (decision,) = decide_postprocessing(base, [discs], splits={"second": Split(tuple(names[:2]), tuple(names[2:]))})
    assert decision.cases == 4
    with pytest.raises(UsageError, match="3 held-out images at least, and there are 2"):
        decide_postprocessing(base, [discs], splits={"second": Split(tuple(names[:4]), ())})


def test_a_gain_of_one_case_at_the_cost_of_two_is_none() -> None:
    assert not ClassDecision("t", "c", 5, 0.5, 0.6, better=1, worse=2).largest_only
    assert not ClassDecision("t", "c", 5, 0.5, 0.5, better=0, worse=0).largest_only
