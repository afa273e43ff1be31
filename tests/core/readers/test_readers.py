"""Agreement, disputes, consensus, and the decision between readings in a ledger."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.corrections import Adjudication, Ledger, ModelReference
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Geometry, Image, read_labels
from meduniseg_core.readers import adjudicate, agreement, consensus, disputes, read_readings, shared_cases

SHAPE = (6, 12, 14)
SPACING = (3.0, 1.0, 1.0)


def block(d: slice, h: slice, w: slice, label: int = 1) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[d, h, w] = label
    return array


ADA = block(slice(1, 5), slice(2, 10), slice(2, 10))
BEN = block(slice(1, 5), slice(2, 10), slice(3, 11))
EVE = block(slice(1, 4), slice(2, 10), slice(2, 10))


def test_agreement_is_the_mean_over_pairs_of_every_class_and_slice() -> None:
    found = agreement({"Ada": ADA, "Ben": BEN, "Eve": EVE}, SPACING, {1: "liver"}, tolerance=0.5)
    (one,) = found.classes
    assert one.name == "liver" and found.readers == ("Ada", "Ben", "Eve")
    pairs = [score for score, _ in one.pairs.values()]
    assert pairs == pytest.approx([7 / 8, 6 / 7, 2 * 3 * 7 / (32 + 24)]) and one.dice == pytest.approx(np.mean(pairs))
    assert [slice_.index for slice_ in one.slices] == [1, 2, 3, 4]
    assert one.slices[0].dice == pytest.approx((7 / 8 + 1 + 7 / 8) / 3)
    assert one.slices[3].dice == pytest.approx((7 / 8) / 3)  # Eve labels nothing there
    assert one.worst_slice == one.slices[3]
    assert 0 < one.slices[0].surface_dice < 1 and one.surface_dice < 1
    assert found.disputed == int(np.count_nonzero((ADA != BEN) | (ADA != EVE)))


def test_a_class_of_one_reader_alone_counts_and_equal_readers_agree() -> None:
    alone = agreement({"Ada": ADA, "Ben": np.where(BEN, 2, 0)}, SPACING, {1: "liver"})
    assert [(one.name, one.dice) for one in alone.classes] == [("liver", 0.0), ("class 2", 0.0)]
    same = agreement({"Ada": ADA, "Ben": ADA.astype(np.uint16)}, SPACING, {})
    assert same.dice == 1 and same.disputed == 0 and same.classes[0].surface_dice == 1
    empty = agreement({"Ada": 0 * ADA, "Ben": 0 * ADA}, SPACING, {})
    assert empty.classes == () and empty.dice == 1


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadInputError, match="Only one reader"):
        agreement({"Ada": ADA}, SPACING, {})
    with pytest.raises(BadInputError, match="different grids"):
        consensus({"Ada": ADA, "Ben": ADA[:3]})
    with pytest.raises(UsageError, match="choose majority or staple"):
        consensus({"Ada": ADA, "Ben": ADA}, "mean")  # type: ignore[arg-type]


def test_disputes_come_largest_first_and_lead_to_a_voxel_of_theirs() -> None:
    one, two = ADA.copy(), ADA.copy()
    two[0, 0, 0] = 2
    two[4, 2:10, 2:10] = 0
    numbered, regions = disputes({"Ada": one, "Ben": two})
    assert [region.voxels for region in regions] == [64, 1] and regions[1].voxel == (0, 0, 0)
    assert [region.said for region in regions] == [(0, 1), (0, 2)]
    assert all(numbered[region.voxel] == region.number for region in regions)
    assert set(np.unique(numbered)) == {0, 1, 2}
    ring = block(slice(2, 3), slice(2, 10), slice(2, 10))
    ring[2, 4:8, 4:8] = 0
    numbered, (region,) = disputes({"Ada": ring, "Ben": 0 * ring})
    assert numbered[region.voxel] == 1  # not in the hole of the ring
    assert disputes({"Ada": ADA, "Ben": ADA})[1] == []


def test_majority_takes_what_most_say_and_staple_trusts_the_reliable() -> None:
    readings = {"Ada": ADA, "Ben": BEN, "Eve": EVE}
    votes = np.sum([one > 0 for one in readings.values()], axis=0)
    assert np.array_equal(consensus(readings), votes >= 2)
    tie = consensus({"Ada": ADA, "Ben": np.where(BEN, 2, 0).astype(np.uint8)})
    assert not tie[(ADA > 0) & (BEN > 0)].any()  # one says 1 and one says 2: background
    rng = np.random.default_rng(0)
    wild = {f"wild{n}": np.where(rng.random(SHAPE) < 0.4, 1 - ADA, ADA).astype(np.uint8) for n in range(2)}
    careful = {f"careful{n}": np.where(rng.random(SHAPE) < 0.02, 1 - ADA, ADA).astype(np.uint8) for n in range(2)}

    def errors(labels: np.ndarray) -> int:
        return int(np.count_nonzero(labels != ADA))

    both = {**wild, **careful}
    assert errors(consensus(both, "staple")) < errors(consensus(both, "majority"))
    assert not consensus({"Ada": 0 * ADA, "Ben": 0 * ADA}, "staple").any()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger", task="organ", modality="ct", classes=("liver",), channels=("CT",))


def volume() -> Image:
    array = np.random.default_rng(0).integers(-500, 500, (1, *SHAPE)).astype(np.int16)
    return Image(array, Geometry(SHAPE, SPACING))


def test_each_readers_newest_labels_are_kept_and_the_decision_names_them(ledger: Ledger) -> None:
    image = volume()
    before = image.with_array(EVE[None])
    model = ModelReference(name="starter")
    ledger.accept(image, image.with_array(EVE[None]), who="Ada", predicted=before, model=model)
    ben = ledger.accept(image, image.with_array(BEN[None]), who="Ben")
    ada = ledger.accept(image, image.with_array(ADA[None]), who="Ada", seconds=12)
    assert shared_cases(ledger) == {ada.case: ("Ada", "Ben")}
    readings = read_readings(ledger, ada.case)
    assert {name: one.tolist() for name, one in readings.arrays().items()} == {"Ada": ADA.tolist(), "Ben": BEN.tolist()}
    assert readings.names == {1: "liver"}
    decided = image.with_array(consensus(readings.arrays(), "staple")[None])
    entry = adjudicate(ledger, readings, decided, who="Eve", consensus="staple")
    assert entry.case == ada.case and entry.adjudicates == (ben.sequence, ada.sequence)
    assert (entry.consensus, entry.who, entry.subset) == ("staple", "Eve", ada.subset)
    assert np.array_equal(read_labels(ledger.files.labels(ada.case)).array, decided.array)
    again = read_readings(ledger, ada.case)  # the decision is nobody's reading: those of before are still there
    assert {name: one.sequence for name, one in again.entries.items()} == {"Ada": ada.sequence, "Ben": ben.sequence}
    assert np.array_equal(again.labels["Ada"].array[0], ADA)
    with pytest.raises(UsageError, match="has no case 'nobody'"):
        read_readings(ledger, "nobody")


def test_a_decision_between_outdated_or_foreign_readings_is_refused(ledger: Ledger) -> None:
    image = volume()
    for who, labels in (("Ada", ADA), ("Ben", BEN)):
        entry = ledger.accept(image, image.with_array(labels[None]), who=who)
    readings = read_readings(ledger, entry.case)
    ledger.accept(image, image.with_array(EVE[None]), who="Ben")
    with pytest.raises(UsageError, match=r"Ben has accepted .* again meanwhile"):
        adjudicate(ledger, readings, image.with_array(ADA[None]), who="Eve")
    for wrong in ((), (9,)):
        with pytest.raises(UsageError, match="Only readings of one image"):
            ledger.accept(image, image.with_array(ADA[None]), adjudication=Adjudication(wrong))
    # accepted between the look at the readings and the acceptance of the decision
    with pytest.raises(UsageError, match=r"Ben has accepted .* again meanwhile"):
        ledger.accept(image, image.with_array(ADA[None]), adjudication=Adjudication((1, 2)))
    assert len(ledger.entries()) == 3


def test_a_ledger_of_before_there_were_adjudications_loads(ledger: Ledger) -> None:
    image = volume()
    entry = ledger.accept(image, image.with_array(ADA[None]), who="Ada")
    path = ledger.folder / "ledger.jsonl"
    header, line = path.read_text("utf-8").splitlines()
    old = {key: value for key, value in json.loads(line).items() if key not in ("adjudicates", "consensus")}
    path.write_text(f"{header}\n{json.dumps(old)}\n", "utf-8")
    assert Ledger.open(ledger.folder).entries() == (entry,)
    with pytest.raises(BadInputError, match="Only one reader"):
        read_readings(ledger, entry.case)


def test_what_a_reader_left_open_is_disputed_by_nobody(ledger: Ledger) -> None:
    path = ledger.folder / "dataset.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "labels": {"background": 0, "liver": 1, "ignore": 2}}), "utf-8")
    image = volume()
    partly = ADA.copy()
    partly[1] = 2
    ledger.accept(image, image.with_array(ADA[None]), who="Ada")
    entry = ledger.accept(image, image.with_array(partly[None]), who="Ben")
    arrays = read_readings(ledger, entry.case).arrays(ledger.dataset.ignored)
    assert not disputes(arrays)[1] and not arrays["Ada"][1].any() and arrays["Ada"][2].any()
    decided = read_readings(ledger, entry.case).joined("majority", ledger.dataset.ignored)
    assert (decided.array[0, 1] == 2).all()  # still open: nobody has said that it is background
    assert np.array_equal(decided.array[0, 2:], ADA[2:])
    stored = adjudicate(ledger, read_readings(ledger, entry.case), decided, who="Eve", consensus="majority")
    assert np.array_equal(read_labels(ledger.files.labels(stored.case)).array, decided.array)
