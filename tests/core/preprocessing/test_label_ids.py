"""Ids by the names that a file carries, and what is said about ids that nobody named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image
from meduniseg_core.preprocessing.label_ids import check_ids, names_of, numbered_by_name

SHAPE = (1, 2, 6)


def labels(values: list[int], names: dict[int, str] | None = None) -> Image:
    array = np.resize(np.array(values, dtype=np.uint8), (1, *SHAPE))
    meta: dict[str, Any] = {} if names is None else {"class_names": names}
    return Image(array, Geometry(SHAPE, (1.0, 1.0, 1.0)), source=Path("s.seg.nrrd"), meta=meta)


def test_files_without_names_keep_their_ids() -> None:
    plain = labels([0, 1, 2])
    assert numbered_by_name(plain, ("liver", "spleen")) is plain and names_of(plain) == {}


def test_segments_numbered_in_another_order_get_the_classes_numbers_and_that_is_said() -> None:
    swapped = labels([0, 1, 2, 3], {1: "spleen", 2: "liver", 3: "cyst", 9: "not there"})
    taken = numbered_by_name(swapped, ("liver", "spleen", "cyst"))
    assert taken.array[0, 0, 0].tolist() == [0, 2, 1, 3, 0, 2]
    (finding,) = taken.findings
    assert finding.code == "labels_matched" and "spleen 1 -> 2, liver 2 -> 1" in finding.text
    assert names_of(taken) == {1: "liver", 2: "spleen", 3: "cyst"}
    again = numbered_by_name(taken, ("liver", "spleen", "cyst"))
    assert np.array_equal(again.array, taken.array)


def test_names_in_the_classes_order_change_nothing() -> None:
    fitting = labels([0, 1, 2], {1: "liver", 2: "spleen"})
    assert numbered_by_name(fitting, ("liver", "spleen")) is fitting


def test_ids_far_apart_are_numbered_by_their_names() -> None:
    taken = numbered_by_name(labels([0, 7, 200], {7: "spleen", 200: "liver"}), ("liver", "spleen"))
    assert taken.array[0, 0, 0].tolist() == [0, 2, 1, 0, 2, 1]


def test_names_that_are_no_class_are_taken_by_number_with_a_warning() -> None:
    taken = numbered_by_name(labels([0, 1, 2], {1: "Segment_1", 2: "Segment_2"}), ("liver", "spleen"))
    assert taken.array[0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2]
    (finding,) = taken.findings
    assert finding.level == "warning" and "1 (Segment_1) as liver, 2 (Segment_2) as spleen" in finding.text


def test_a_name_that_is_no_class_beside_one_that_is_cannot_be_guessed() -> None:
    with pytest.raises(BadInputError, match=r"s\.seg\.nrrd names the label 'fat', and the classes are liver, spleen"):
        numbered_by_name(labels([0, 1, 2], {1: "spleen", 2: "fat"}), ("liver", "spleen"))
    with pytest.raises(BadInputError, match="names some of its labels and not 2"):
        numbered_by_name(labels([0, 1, 2], {1: "spleen"}), ("liver", "spleen"))


def test_data_sets_refuse_labels_whose_names_contradict_them() -> None:
    check_ids(labels([0, 1, 2], {1: "liver", 2: "spleen"}), ("liver", "spleen"))
    check_ids(labels([0, 1, 2], {1: "Segment_1"}), ("liver", "spleen"))
    with pytest.raises(BadInputError, match=r"calls its label 1 'spleen', and in dataset\.json that is 2"):
        check_ids(labels([0, 1], {1: "spleen"}), ("liver", "spleen"))


@pytest.mark.parametrize(
    ("values", "classes", "ignored", "said"),
    [
        ([0, 255], ("lesion",), None, r"\(255\); it is a mask of 0 and 255, so save it with 0 and 1 for lesion"),
        ([0, 128], ("lesion",), None, r"\(128\); it is a mask of 0 and 128"),
        ([0, 1, 255], ("lesion",), None, r"\(255\); if 255 marks voxels that are not labelled, save them as 2"),
        ([0, 1, 3], ("lesion",), 2, r"\(3\); name them or correct the labels"),
        ([0, 255], ("a", "b"), None, r"\(255\); .*save them as 3 and add \"ignore\": 3"),
    ],
)
def test_ids_that_nobody_named_are_refused_with_a_remedy_that_is_one(
    values: list[int], classes: tuple[str, ...], ignored: int | None, said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        check_ids(labels(values), classes, ignored)


def test_the_ignored_id_is_fine() -> None:
    check_ids(labels([0, 1, 2]), ("lesion",), 2)
