"""Names and colours of classes beside a label map: ITK-SNAP's descriptions and BIDS' lookup tables, out and in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_labels, write_labels
from meduniseg_core.images.label_tables import (
    TABLES,
    LabelTable,
    read_label_table,
    table_beside,
    table_name,
    write_label_table,
)

TABLE = LabelTable(
    {1: "left kidney", 2: 'vessel "A"', 7: "Thrombus, calcified", 300: "größer"},
    {1: (255, 0, 10), 2: (0, 128, 255), 7: (1, 2, 3), 300: (9, 99, 199)},
)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    array = np.zeros((1, 3, 4, 5), np.uint16)
    array[0, 1, 1, 1:5] = (1, 2, 7, 300)
    path = tmp_path / "scan.v2.nii.gz"
    write_labels(Image(array, Geometry((3, 4, 5), (1.0, 1.0, 1.0))), path)
    return path


@pytest.mark.parametrize("kind", list(TABLES))
def test_names_and_colours_survive_the_round_trip(labels: Path, kind: str) -> None:
    assert read_labels(labels).meta.get("class_names") is None
    labels.with_name(table_name(labels, kind)).write_text(TABLES[kind][1](TABLE), encoding="utf-8")
    read = read_labels(labels)
    quoted = {**TABLE.names, 2: "vessel 'A'"} if kind == "itk-snap" else TABLE.names
    assert read.meta["class_names"] == quoted and read.meta["class_colours"] == TABLE.colours


def test_what_itk_snap_writes_itself_is_read(labels: Path) -> None:
    text = """################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Label 1"\r
   12     0  255    0      0.5  0  1    ""
"""
    labels.with_name("scan.v2.label").write_text(text, encoding="utf-8")
    found = table_beside(labels)
    assert found == LabelTable({1: "Label 1", 12: ""}, {1: (255, 0, 0), 12: (0, 255, 0)})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.v2.txt", b"Notes of the radiologist\n1 255 0 0 a tumour?\n"),
        ("scan.v2.txt", b""),
        ("scan.v2.txt", b'1 999 0 0 1 1 1 "too red"\n'),
        ("scan.v2.txt", b'99999 9 0 0 1 1 1 "too large"\n'),
        ("scan.v2.txt", b"\xff\xfe\x00\x01"),
        ("scan.v2.tsv", b"participant_id\tage\nsub-01\t7\n"),
        ("scan.v2.tsv", b"index\tname\n-1\tx\n"),
        ("scan.v2.tsv", b"index\tname\n\xc2\xb2\tx\n"),
        ("scan.v2.tsv", b"index\tname\n1\n"),
        ("scan.v2_labels.txt", b'0 0 0 0 0 0 0 "Clear Label"\n'),
    ],
)
def test_another_file_of_that_name_is_no_table(labels: Path, name: str, content: bytes) -> None:
    labels.with_name(name).write_bytes(content)
    assert table_beside(labels) is None and "class_names" not in read_labels(labels).meta


def test_a_folder_of_that_name_is_no_table_and_a_table_without_colours_names_its_classes(labels: Path) -> None:
    labels.with_name("scan.v2.txt").mkdir()
    labels.with_name("scan.v2.tsv").write_text("name\tindex\nliver\t1\nn/a\t0\n", encoding="utf-8")
    assert table_beside(labels) == LabelTable({1: "liver"}, {})


@pytest.mark.parametrize("name", ["list.txt", "list.label", "LIST.TSV"])
def test_a_chosen_file_is_written_and_read_by_its_ending(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_label_table(path, TABLE)
    assert path.read_text(encoding="utf-8").startswith("index" if name.endswith("TSV") else "###")
    found = read_label_table(path)
    assert found.colours == TABLE.colours and found.names[300] == "größer" and len(found.names) == len(TABLE.names)


def test_colour_tables_of_freesurfer_and_slicer_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lut.ctbl"
    path.write_text(
        "#No. Label Name:                R   G   B   A\n\n"
        "0   Unknown                     0   0   0   0\n"
        "17  Left-Hippocampus            220 216 20  0\n"
        "53 Right-Hippocampus 220 216 20 255\n",
        encoding="utf-8",
    )
    found = read_label_table(path)
    assert found.names == {17: "Left-Hippocampus", 53: "Right-Hippocampus"} and found.colours[53] == (220, 216, 20)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a note\n",
        b"\xff\xfe\x00",
        b"index\tname\n",
        b"1 liver 300 0 0 0\n",
        b"70000 liver 1 0 0 0\n",
        b"0 x 0 0 0 0\n",
    ],
)
def test_a_chosen_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"notes\.txt is not a list of labels; give ITK-SNAP"):
        read_label_table(path)
    with pytest.raises(BadInputError):
        read_label_table(tmp_path / "missing.txt")
