"""Splits are by patient, kept in a file and never redrawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError
from meduniseg_core.training.split import draw_split, load_or_draw_splits

PATIENTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=6), st.sampled_from(["p", "q", "r", "s", "t"]), min_size=1, max_size=30
)


@settings(deadline=None)  # a busy machine takes as long as it takes
@given(PATIENTS, st.floats(0, 0.9), st.integers(0, 2**32))
def test_no_patient_stands_on_both_sides(patient_of: dict[str, str], fraction: float, seed: int) -> None:
    split = draw_split(patient_of, fraction, np.random.default_rng(seed))
    assert sorted((*split.train, *split.validation)) == sorted(patient_of)
    assert split.train
    assert not {patient_of[c] for c in split.train} & {patient_of[c] for c in split.validation}
    if fraction > 0 and len(set(patient_of.values())) > 1:
        assert split.validation


def test_new_cases_join_training_or_their_patients_side(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    patients = {f"c{i}": f"p{i}" for i in range(10)}
    before = load_or_draw_splits(path, [("t", patients)], 0.3, 0)["t"]
    held = patients[before.validation[0]]
    after = load_or_draw_splits(path, [("t", {**patients, "new": "p99", "again": held})], 0.3, 12345)["t"]
    assert set(before.validation) | {"again"} == set(after.validation)
    assert "new" in after.train


def test_another_task_in_the_same_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    load_or_draw_splits(path, [("first", {"a": "1", "b": "2"})], 0.5, 0)
    load_or_draw_splits(path, [("second", {"c": "1", "d": "2"})], 0.5, 0)
    assert set(json.loads(path.read_text())) == {"first", "second"}


def test_a_vanished_case_and_a_damaged_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    load_or_draw_splits(path, [("t", {"a": "1", "b": "2"})], 0.5, 0)
    with pytest.raises(BadInputError, match="no longer in the data"):
        load_or_draw_splits(path, [("t", {"a": "1", "c": "3"})], 0.5, 0)
    path.write_text("{")
    with pytest.raises(BadInputError, match="not a split file"):
        load_or_draw_splits(path, [("t", {"a": "1"})], 0.5, 0)
