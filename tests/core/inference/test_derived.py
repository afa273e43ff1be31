"""Measures derived from several classes, and results as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference.derived import derived_measures, table_csv
from meduniseg_core.inference.image_class import ImageClass
from meduniseg_core.inference.segmentation import ClassRow


def labels(array: np.ndarray) -> Image:
    return Image(array[None], Geometry(array.shape, (1.0, 1.0, 1.0)), physical=False)


def eye(cup: int = 4) -> Image:
    array = np.zeros((1, 30, 30), np.uint8)
    array[0, 5:25, 5:15] = 2  # a disc 20 high and 10 wide
    array[0, 10 : 10 + cup, 6:14] = 1
    return labels(array)


def test_the_cup_disc_ratio_is_of_the_whole_disc() -> None:
    vertical, area = derived_measures(eye(), ("cup", "disc rim"))
    assert (vertical.name, vertical.value) == ("vertical cup/disc ratio", 4 / 20)
    assert area.value == 32 / 200


def test_no_cup_is_a_ratio_of_nothing_and_no_disc_is_none() -> None:
    assert [one.value for one in derived_measures(eye(0), ("cup", "disc rim"))] == [0.0, 0.0]
    assert derived_measures(labels(np.zeros((1, 8, 8), np.uint8)), ("cup", "disc rim")) == []
    assert derived_measures(eye(), ("liver", "kidney")) == []


def test_the_order_and_spelling_of_the_classes_do_not_matter() -> None:
    turned = labels(np.array([0, 2, 1], np.uint8)[eye().array[0]])
    assert [one.value for one in derived_measures(turned, ("Disc", "Cup"))] == [0.2, 0.16]


def test_the_infected_share_is_of_lung_and_infection() -> None:
    array = np.zeros((1, 10, 10), np.uint8)
    array[0, :6], array[0, 6:8] = 1, 2
    (share,) = derived_measures(labels(array), ("lung", "infection"))
    assert share.value == 0.25


def test_the_table_as_csv_holds_classes_measures_and_no_nan() -> None:
    rows = [
        ClassRow(1, "cup, say", 32, 32.0, "pixels", (1.5, 2.0, 3.0)),
        ClassRow(2, "rim", 0, 0.0, "pixels", (float("nan"),) * 3),
    ]
    text = table_csv("eye.png", {"disc_cup": rows}, {"disc_cup": derived_measures(eye(), ("cup", "disc rim"))})
    found = list(csv.DictReader(io.StringIO(text)))
    assert found[0]["class"] == "cup, say" and found[0]["mean_2"] == "2" and found[1]["mean_1"] == ""
    assert found[2] | {"class": "vertical cup/disc ratio", "size": "0.2", "unit": "ratio"} == found[2]
    assert "nan" not in text
    classes = {"disc_cup": ImageClass("sick", {"well": 0.25, "sick": 0.75}, "ab" * 32)}
    more = list(csv.DictReader(io.StringIO(table_csv("eye.png", {"disc_cup": rows}, {}, classes))))
    assert more[:2] == found[:2]
    assert [(row["class"], row["size"], row["unit"]) for row in more[2:]] == [
        ("image: sick", "0.75", "probability"),
        ("image: well", "0.25", "probability"),
    ]
