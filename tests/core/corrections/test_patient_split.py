"""No patient ever stands on both sides, whatever is accepted in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.corrections import SplitDecision, assign_subset
from meduniseg_core.corrections.patient_split import first_on_both_sides
from meduniseg_core.errors import BadInputError

# few images and patients, so that keys come late, change and clash; None is an acceptance without a key, and a patient
# may be called like a case
_ACCEPTANCES = st.lists(
    st.tuples(
        st.sampled_from([f"c{n}" for n in range(8)]), st.sampled_from([None, None, "A", "B", "C", "D", "c0", "c1"])
    ),
    max_size=40,
)


@settings(max_examples=1000, deadline=None)
@given(_ACCEPTANCES, st.sampled_from([0.0, 0.1, 0.2, 0.5]))
def test_no_patient_ever_stands_on_both_sides(acceptances: list[tuple[str, str | None]], fraction: float) -> None:
    past: list[SplitDecision] = []
    for case, patient in acceptances:
        try:
            placed = assign_subset(case, patient, past, fraction)
        except BadInputError:
            continue  # refused: nothing is recorded
        assert placed.patient == (patient or next((p.patient for p in reversed(past) if p.case == case), case))
        past.append(placed)
    patients: dict[str, set[str]] = {}
    cases: dict[str, set[str]] = {}
    for placed in past:
        patients.setdefault(placed.patient, set()).add(placed.subset)
        cases.setdefault(placed.case, set()).add(placed.subset)
    assert all(len(sides) == 1 for sides in (*patients.values(), *cases.values()))
    assert first_on_both_sides(past) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=60, unique=True))
def test_the_share_of_validation_is_kept_at_every_moment(patients: list[str]) -> None:
    past: list[SplitDecision] = []
    for patient in patients:
        past.append(assign_subset(f"case-{patient}", patient, past, 0.2))
        held = sum(placed.subset == "validation" for placed in past)
        assert abs(held - 0.2 * len(past)) <= 1
    assert past[0].subset == "training"
    assert len(past) < 2 or past[1].subset == "validation"


def test_the_draw_depends_on_nothing_but_the_past_and_the_key() -> None:
    def sides() -> list[str]:
        past: list[SplitDecision] = []
        for number in range(200):
            past.append(assign_subset(f"c{number}", f"P{number}", past, 0.2))
        return [placed.subset for placed in past]

    assert sides() == sides()
    assert sides().count("validation") == 40
    gaps = {index % 5 for index, side in enumerate(sides()) if side == "validation"}
    assert len(gaps) > 1  # not simply every fifth patient


def test_without_validation_everything_is_training() -> None:
    past: list[SplitDecision] = []
    for number in range(20):
        past.append(assign_subset(f"c{number}", None, past, 0.0))
    assert {placed.subset for placed in past} == {"training"}


def test_keys_given_late_or_changed() -> None:
    past = [assign_subset("c0", "A", [], 0.2)]
    past.append(assign_subset("c1", None, past, 0.2))
    assert past[1] == SplitDecision("c1", "c1", "validation")
    with pytest.raises(BadInputError, match=r"c1 .*validation.* A .*training"):
        assign_subset("c1", "A", past, 0.2)
    past.append(assign_subset("c1", "B", past, 0.2))
    assert past[2] == SplitDecision("c1", "B", "validation")
    past.append(assign_subset("c1", None, past, 0.2))
    assert past[3] == past[2]
    past.append(assign_subset("c2", "B", past, 0.2))
    assert past[4].subset == "validation"
    # a mistyped key: the case is another's now, and the old key keeps its side
    past.append(assign_subset("c1", "C", past, 0.2))
    past.append(assign_subset("c2", "C", past, 0.2))
    assert assign_subset("c3", "B", past, 0.2).subset == "validation"
    assert first_on_both_sides([*past, SplitDecision("c4", "C", "training")]) == len(past)
