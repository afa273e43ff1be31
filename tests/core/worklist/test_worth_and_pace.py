"""Uncertainty, novelty, expected time and the small picture."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from pydantic import ValidationError
from worklist_samples import made_cases

from meduniseg_core.corrections import ClassChange, LedgerEntry
from meduniseg_core.errors import BadInputError
from meduniseg_core.images.cases import Case
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.worklist import WorkItem, thumbnail, thumbnails
from meduniseg_core.worklist.pace import learn_pace
from meduniseg_core.worklist.state_file import Predicted
from meduniseg_core.worklist.worth import novelties, uncertainty_of


def evidence(*classes: ClassEvidence) -> Evidence:
    return Evidence(1000, classes, np.zeros(3))


def of_class(voxels: float, inside: float, total: float, peak: float = 5.0) -> ClassEvidence:
    return ClassEvidence(voxels, inside, 0, total, 0, 0, 0, peak, 0, 0)


def predicted(*features: float, model: str = "a") -> Predicted:
    return Predicted(image_sha256="0" * 64, model_sha256=model, uncertainty=0.5, voxels=10, features=features)


def test_a_sure_prediction_is_less_uncertain_than_a_faint_one() -> None:
    sure = uncertainty_of(evidence(of_class(100, 99, 100)))
    faint = uncertainty_of(evidence(of_class(100, 60, 110)))
    nothing = uncertainty_of(evidence(of_class(0, 0, 0, peak=-20)))
    nearly = uncertainty_of(evidence(of_class(0, 0, 3, peak=-0.1)))
    assert 0 <= sure < 0.05 < 0.3 < faint < 1
    assert nothing < 1e-6 and 0.4 < nearly < 0.5
    assert uncertainty_of(evidence(of_class(0, 0, 0, peak=-1e4))) == 0


def test_what_lies_far_from_every_annotated_case_is_novel() -> None:
    cases = {"a": predicted(0, 0), "b": predicted(0.1, 0), "c": predicted(5, 5), "old": predicted(9, 9, model="b")}
    found = novelties(cases, {"a"})
    assert found["a"] == 0 and found["b"] < 0.1 < 1 < found["c"]
    assert found["old"] == 1.0  # features of another model cannot be compared
    assert set(novelties(cases, set()).values()) == {1.0}
    assert novelties({"a": predicted(1, 1), "b": predicted(1, 1)}, {"a"}) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize("dice", [10**400, 1e300, float("nan"), -1, True, "0.5", [0.5], None])
def test_a_dice_that_somebody_wrote_into_a_json_is_no_dice(dice: object) -> None:
    assert WorkItem(Case("a", ()), "predicted", quality={"dice": dice}).dice is None
    assert WorkItem(Case("a", ()), "predicted", quality={"dice": 1}).dice == 1.0


def test_features_whose_spread_would_be_infinite_are_refused() -> None:
    assert np.isfinite(list(novelties({"a": predicted(3e38), "b": predicted(-3e38)}, {"a"}).values())).all()
    with pytest.raises(ValidationError):
        predicted(1e300)


def entry(number: int, seconds: float | None, changed: int | None, size: int = 1000) -> LedgerEntry:
    change = ClassChange(name="v", corrected=size)
    if changed is not None:
        change = ClassChange(
            name="v", corrected=size, predicted=size, added=changed // 2, removed=changed - changed // 2
        )
    return LedgerEntry(
        sequence=number,
        case=f"c{number}",
        patient="p",
        subset="training",
        image_sha256=f"{number:064x}",
        labels_sha256="0" * 64,
        shape=(1, 2, 3),
        classes=(change,),
        seconds=seconds,
        when=datetime.now(UTC),
    )


def test_time_follows_the_changed_voxels_of_the_ledger() -> None:
    pace = learn_pace([entry(n, 20 + 0.1 * changed, changed) for n, changed in enumerate((0, 100, 200, 400), 1)], {})
    assert (
        pace is not None and pace.base == pytest.approx(20, abs=0.1) and pace.per_voxel == pytest.approx(0.1, abs=0.001)
    )
    assert pace.seconds(None, None) == pytest.approx(20, abs=0.1)
    assert pace.seconds(2000, None) == pytest.approx(20 + 0.1 * 0.15 * 2000, abs=0.5)  # 15 % changed in the median


def test_twice_as_uncertain_is_twice_as_much_to_change() -> None:
    entries = [entry(n, 10 + 0.1 * changed, changed) for n, changed in enumerate((100, 200, 300, 400), 1)]
    pace = learn_pace(entries, {one.image_sha256: 0.2 for one in entries})
    assert pace is not None
    extra = pace.seconds(1000, 0.2) - pace.base
    assert extra > 1 and pace.seconds(1000, 0.4) - pace.base == pytest.approx(2 * extra)
    assert pace.seconds(1000, 1.0) - pace.base == pytest.approx(4 * extra)  # not more than four times


def test_few_times_or_none() -> None:
    assert learn_pace([entry(1, None, 50)], {}) is None
    pace = learn_pace([entry(1, 30, None), entry(2, 50, 10), entry(3, 90, 10)], {})
    assert pace is not None and pace.seconds(5000, 0.5) == 50
    slower_with_less = learn_pace([entry(n, 100 - n * 10, n * 100) for n in range(1, 6)], {})
    assert slower_with_less is not None and slower_with_less.per_voxel == 0  # more to change never takes less time


def test_a_picture_with_and_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_cases(tmp_path, 1)
    path = tmp_path / "scan0.nii.gz"
    picture = PillowImage.open(io.BytesIO(thumbnail((path,), None, 40)))
    assert max(picture.size) == 40
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 100)
    with pytest.raises(BadInputError, match="too large for a small picture"):
        thumbnail((path,), None, 40)
