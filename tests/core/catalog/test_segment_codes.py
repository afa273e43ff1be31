"""Codes of classes: those of DICOM's own dictionary, and a local one for whatever is not in it."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from pydicom.sr._concepts_dict import concepts

from meduniseg_core.catalog import TASKS
from meduniseg_core.catalog.segment_codes import LOCAL_SCHEME, Code, segment_codes


def test_every_code_means_in_dicoms_dictionary_what_it_means_here() -> None:
    meanings: dict[str, set[str]] = {}
    for entries in concepts["SCT"].values():
        for value, (meaning, *_) in entries.items():
            meanings.setdefault(value, set()).add(meaning)
    tables = tomllib.loads(files("meduniseg_core.catalog").joinpath("segment_codes.toml").read_text("utf-8"))["segment"]
    for table in tables:
        for value, meaning in (table["type"], table.get("region", table["type"])):
            assert meaning in meanings.get(value, set()), table
    every = [segment_codes(name, table.get("task")) for table in tables for name in table["names"]]
    for code in [one for found in every for one in (found.category, found.type, found.modifier, found.region) if one]:
        assert code.scheme == "SCT" and code.meaning in meanings[code.value], code


def test_sides_parts_and_spellings() -> None:
    assert segment_codes("Left_Kidney").type == segment_codes("kidney").type == Code("64033007", "SCT", "Kidney")
    assert segment_codes("left kidney").modifier == Code("7771000", "SCT", "Left")
    assert segment_codes("kidney right").modifier == Code("24028007", "SCT", "Right")
    assert segment_codes("left atrium").modifier is None  # its own structure, not a side of one
    assert segment_codes("anterior", "hippocampus").type.meaning == "Hippocampus"
    assert segment_codes("anterior").type.scheme == LOCAL_SCHEME
    assert segment_codes("liver tumour").region == Code("10200004", "SCT", "Liver")


def test_names_without_a_code_get_local_ones_that_differ() -> None:
    names = ["cup", "Größe", "a very long class name, left", "a very long class name, right", "x" * 200, " "]
    codes = [segment_codes(name).type for name in names]
    assert len({code.value for code in codes}) == len(names)
    for code in codes:
        assert code.scheme == LOCAL_SCHEME and 1 <= len(code.value) <= 16 and 1 <= len(code.meaning) <= 64


def test_the_paper_tasks_have_codes_for_their_organs() -> None:
    organs = TASKS["abdominal_organs"].classes
    without = [name for name in organs if segment_codes(name).type.scheme == LOCAL_SCHEME]
    assert without == ["portal and splenic veins"]  # two veins, which no single code means
