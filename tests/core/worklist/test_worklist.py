"""The worklist: states from what is on disk and in the ledger, what is noted survives a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from worklist_samples import made_cases, tiny_predictor

from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import read_image, read_labels, write_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.worklist import Worklist, default_results, next_item, ordered, results_of_reader
from meduniseg_core.worklist.state_file import NAME


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return tiny_predictor(tmp_path_factory.mktemp("model"))


@pytest.fixture
def worklist(tmp_path: Path) -> Worklist:
    made_cases(tmp_path / "cases", 3)
    return Worklist(tmp_path / "cases", tmp_path / "out", "vessel", ledger=tmp_path / "ledger", channels=1)


def states(worklist: Worklist) -> dict[str, str]:
    return {item.name: item.state for item in worklist.items()}


def accept(worklist: Worklist, name: str, **more: object) -> None:
    assert worklist.ledger is not None
    case = worklist.case(name)
    image = read_image(case.source)
    ledger = Ledger.create(
        worklist.ledger,
        task="vessel",
        modality="mri",
        classes=("artery", "vein"),
        channels=("MR",),
        exist_ok=True,
    )
    path = worklist.results / f"{name}.nii.gz"
    labels = read_labels(path) if path.is_file() else image.with_array(np.zeros(image.array.shape, np.uint8))
    ledger.accept(image, labels, **more)


def corrected(worklist: Worklist, name: str) -> None:
    path = worklist.results / f"{name}.nii.gz"
    labels = read_labels(path)
    array = labels.array.copy()
    array[0, :2] = 1 - array[0, :2].clip(0, 1)
    write_labels(labels.with_array(array), path)


def test_every_state_is_read_from_what_is_on_disk(worklist: Worklist, predictor: Predictor) -> None:
    assert states(worklist) == {"scan0": "new", "scan1": "new", "scan2": "new"}
    for name in ("scan0", "scan1"):
        assert worklist.predict(name, predictor) == worklist.results / f"{name}.nii.gz"
    corrected(worklist, "scan1")
    worklist.skip("scan2")
    again = Worklist(worklist.folder, worklist.results, "vessel", ledger=worklist.ledger)
    assert states(again) == {"scan0": "predicted", "scan1": "corrected", "scan2": "skipped"}
    accept(again, "scan1", seconds=30.0)
    again.skip("scan2", False)
    assert states(again) == {"scan0": "predicted", "scan1": "accepted", "scan2": "new"}


def test_a_case_that_the_worklist_never_predicted_is_recognised_in_the_ledger(worklist: Worklist) -> None:
    accept(worklist, "scan2")
    made_cases(worklist.folder, 1, first=7, names=["scan1"])  # another image of a name in no ledger
    assert states(worklist)["scan2"] == "accepted"
    (worklist.folder / "scan2.nii.gz").replace(worklist.folder / "scan9.nii.gz")
    made_cases(worklist.folder, 1, first=8, names=["scan2"])  # the same name, another image
    assert states(worklist)["scan2"] == "new"


def test_a_correction_is_never_replaced_by_a_prediction(worklist: Worklist, predictor: Predictor) -> None:
    path = worklist.predict("scan0", predictor)
    corrected(worklist, "scan0")
    before = path.read_bytes()
    assert worklist.predict("scan0", predictor) == path and path.read_bytes() == before
    assert states(worklist)["scan0"] == "corrected"


def test_results_of_the_batch_are_predictions_and_those_of_another_task_are_not(
    worklist: Worklist, predictor: Predictor
) -> None:
    image = read_image(worklist.folder / "scan0.nii.gz")
    predictor.segment(image, "vessel")["vessel"].save(worklist.results / "scan0.nii.gz")
    other = read_image(worklist.folder / "scan1.nii.gz")
    predictor.segment(other, "organ")["organ"].save(worklist.results / "scan1.nii.gz")
    assert states(worklist) == {"scan0": "predicted", "scan1": "new", "scan2": "new"}
    with pytest.raises(UsageError, match=r"scan1.json is the result of task organ"):
        worklist.predict("scan1", predictor)


def test_a_data_set_is_a_worklist_and_its_labels_count_as_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset900_Vessel"
    made_cases(folder / "imagesTr", 2, names=["a_0000", "b_0000"])
    (folder / "labelsTr").mkdir()
    image = read_image(folder / "imagesTr" / "a_0000.nii.gz")
    write_labels(image.with_array(np.ones(image.array.shape, np.uint8)), folder / "labelsTr" / "a.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "v": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    assert states(Worklist(folder, tmp_path / "out", "vessel")) == {"a": "accepted", "b": "new"}


def test_a_case_that_cannot_be_read_is_listed_and_passed_over(worklist: Worklist) -> None:
    for name in ("bad_0000", "bad_0002"):
        made_cases(worklist.folder, 1, names=[name])
    listed = Worklist(worklist.folder, worklist.results, "vessel")
    items = listed.items()
    assert [item.name for item in items if item.case.fault is not None] == ["bad"]
    found = next_item(items)
    assert found is not None and found.name == "scan0"
    with pytest.raises(BadInputError, match="no channel 0001"):
        listed.case("bad")
    with pytest.raises(UsageError, match="There is no case 'nobody'; there are: bad, scan0"):
        listed.case("nobody")


def test_orders_and_the_next_case(worklist: Worklist, predictor: Predictor) -> None:
    for name in ("scan0", "scan1", "scan2"):
        worklist.predict(name, predictor)
    accept(worklist, "scan0", seconds=60.0)
    items = worklist.items()
    by_worth = ordered(items, "worth")
    assert by_worth[-1].name == "scan0" and by_worth[-1].worth == 0  # nothing is nearer to it than itself
    assert by_worth[0].worth is not None and by_worth[0].worth >= (by_worth[1].worth or 0) > 0
    assert [item.name for item in ordered(items, "state")] == ["scan1", "scan2", "scan0"]
    follows = next_item(items, "scan2")
    assert follows is not None and follows.name == "scan1"  # around the end, past what is accepted
    worklist.skip("scan1")
    worklist.skip("scan2")
    assert next_item(worklist.items()) is None
    assert [item.seconds for item in items] == [None, 60.0, 60.0]


def test_a_second_reader_sees_what_he_has_not_accepted(worklist: Worklist) -> None:
    accept(worklist, "scan0", who="Ada")
    common = {"ledger": worklist.ledger}
    assert states(Worklist(worklist.folder, worklist.results, "vessel", reader="Ada", **common))["scan0"] == "accepted"
    assert states(Worklist(worklist.folder, worklist.results, "vessel", reader="Ben", **common))["scan0"] == "new"


def test_a_second_reader_shares_no_results_and_begins_with_predictions(
    worklist: Worklist, predictor: Predictor
) -> None:
    worklist.predict("scan0", predictor)
    corrected(worklist, "scan0")
    assert states(worklist)["scan0"] == "corrected"
    own = results_of_reader(worklist.results, "Ben")
    second = Worklist(worklist.folder, own, "vessel", ledger=worklist.ledger, channels=1, reader="Ben")
    assert states(second)["scan0"] == "new"
    second.predict("scan0", predictor)
    assert states(second)["scan0"] == "predicted" and states(worklist)["scan0"] == "corrected"
    others = ("Ada", "ada", "Dr. Ada", "dr-ada", "Ärztin")
    assert len({str(results_of_reader(worklist.results, one)).lower() for one in others}) == len(others)
    assert all(results_of_reader(worklist.results, one).parent == worklist.results.parent for one in others)


def test_labels_of_a_data_set_do_not_count_in_a_second_reading(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset001_vessel"
    made_cases(folder / "imagesTr", 1)
    (image,) = (folder / "imagesTr").iterdir()
    image.rename(folder / "imagesTr" / "scan0_0000.nii.gz")
    read = read_image(folder / "imagesTr" / "scan0_0000.nii.gz")
    (folder / "labelsTr").mkdir()
    write_labels(read.with_array(np.zeros(read.array.shape, np.uint8)), folder / "labelsTr" / "scan0.nii.gz")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "artery": 1}, "numTraining": 1}
    content |= {"file_ending": ".nii.gz", "task": "vessel", "modality": "mri"}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    assert states(Worklist(folder, tmp_path / "out", "vessel")) == {"scan0": "accepted"}
    assert states(Worklist(folder, tmp_path / "out", "vessel", reader="Ben")) == {"scan0": "new"}


def test_the_file_is_checked_before_it_is_trusted(worklist: Worklist) -> None:
    worklist.skip("scan0")
    path = worklist.results / NAME
    with pytest.raises(BadInputError, match="is the worklist of task vessel; choose another folder for organ"):
        Worklist(worklist.folder, worklist.results, "organ").items()
    whole = path.read_text("utf-8")
    for text, said in (
        (whole[:-9], "is not JSON"),
        (whole.replace('"version":1', '"version":2'), "not a worklist of this version"),
        (whole.replace('"skipped":["scan0"]', '"skipped":7'), "not a worklist of this version"),
        ("[]", "not a worklist of this version"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(BadInputError, match=said):
            worklist.items()


_SKIPS = """
import sys
from meduniseg_core.worklist import Worklist
worklist = Worklist(sys.argv[1], sys.argv[2], "vessel")
for turn in range(100000):
    for name in ("scan0", "scan1", "scan2"):
        worklist.skip(name, turn % 2 == 0)
        print(turn, name, flush=True)
"""


def test_what_was_said_to_be_skipped_survives_kill_9(worklist: Worklist) -> None:
    command = [sys.executable, "-c", _SKIPS, str(worklist.folder), str(worklist.results)]
    for wanted in (1, 8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(wanted)]
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.readlines()
        turn, name = lines[-1].split()
        skipped = {item.name for item in worklist.items() if item.state == "skipped"}
        after = int(turn) % 2 == 0  # the last that was said is on disk; the one after it may be
        assert (name in skipped) == after
        worklist.skip("scan0")  # the lock of the dead is nobody's
        assert next(item for item in worklist.items() if item.name == "scan0").state == "skipped"


def test_the_default_folder_of_results_lies_beside_the_cases(tmp_path: Path) -> None:
    assert default_results(tmp_path / "cases" / ".." / "cases", "vessel") == tmp_path.resolve() / "cases_vessel"
    assert default_results(tmp_path / "cases", "vessel", "ben") == tmp_path.resolve() / "cases_vessel_ben"
