"""Tables of classes: ITK-SNAP's label descriptions, the lookup tables of BIDS (``_dseg.tsv``), the colour tables of
FreeSurfer and 3D Slicer. They are read beside a label map, or where the user says.

Formats: http://www.itksnap.org (label description file); https://bids-specification.readthedocs.io, "Segmentations";
FreeSurfer's ``FreeSurferColorLUT.txt`` and Slicer's ``.ctbl``: id, name, R, G, B and a transparency or opacity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small, write_text
from meduniseg_core.images.formats import stem_of
from meduniseg_core.images.palette import Colour, class_colour

_LARGEST = 1 << 20  # bytes
_MOST = 65535
_DESCRIPTION = re.compile(r'\s*(\d{1,5})\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+[\d.eE+-]+\s+[01]\s+[01]\s+"(.*)"\s*')
_COLOUR_ROW = re.compile(r"\s*(\d{1,5})\s+(\S+)\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+\d{1,3}\s*")
_HEX = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class LabelTable:
    """Names and colours (RGB, 0 to 255) of classes by label id; the background is none of them."""

    names: dict[int, str]
    colours: dict[int, Colour]


def itk_snap_text(table: LabelTable) -> str:
    """Format ITK-SNAP's label descriptions (Segmentation > Import Label Descriptions).

    Args:
        table: The classes.

    Returns:
        The file's text.
    """
    lines = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# File format:",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "################################################",
        '    0     0    0    0        0  0  0    "Clear Label"',
    ]
    for label, name in sorted(table.names.items()):
        red, green, blue = table.colours.get(label, class_colour(label))
        shown = _plain(name).replace('"', "'")
        lines.append(f'{label:5d} {red:5d}{green:5d}{blue:5d}        1  1  1    "{shown}"')
    return "\n".join(lines) + "\n"


def bids_text(table: LabelTable) -> str:
    """Format the lookup table of a BIDS segmentation.

    Args:
        table: The classes.

    Returns:
        Tab-separated values with the columns index, name and color.
    """
    lines = ["index\tname\tcolor", "0\tbackground\t#000000"]
    for label, name in sorted(table.names.items()):
        red, green, blue = table.colours.get(label, class_colour(label))
        lines.append(f"{label}\t{_plain(name)}\t#{red:02x}{green:02x}{blue:02x}")
    return "\n".join(lines) + "\n"


TABLES: Mapping[str, tuple[str, Callable[[LabelTable], str]]] = {
    "itk-snap": ("_labels.txt", itk_snap_text),
    "bids": (".tsv", bids_text),
}
"""The tables that are written, each with what follows the label map's name and its text."""


def table_name(labels: Path, kind: str) -> str:
    """Name the table beside a label map.

    Args:
        labels: The label map.
        kind: One of `TABLES`.

    Returns:
        The file's name.
    """
    return f"{stem_of(labels)}{TABLES[kind][0]}"


def table_beside(labels: Path) -> LabelTable | None:
    """Read the table beside a label map: ``NAME_labels.txt``, ``NAME.label`` or ``NAME.txt`` of ITK-SNAP, or
    ``NAME.tsv`` of BIDS.

    Args:
        labels: The label map.

    Returns:
        The table; None where there is none, or the file of that name is something else.
    """
    stem = stem_of(labels)
    for suffix, parse in (("_labels.txt", _itk_snap), (".label", _itk_snap), (".txt", _itk_snap), (".tsv", _bids)):
        path = labels.with_name(f"{stem}{suffix}")
        if not path.is_file():
            continue
        try:
            found = parse(read_small(path, _LARGEST).decode("utf-8-sig"))
        except (BadInputError, UnicodeDecodeError):
            continue
        if found is not None and found.names:
            return found
    return None


def read_label_table(path: Path) -> LabelTable:
    """Read a table of classes that the user has chosen, whatever its format.

    Args:
        path: A file of ITK-SNAP, BIDS, FreeSurfer or 3D Slicer.

    Returns:
        The table, with at least one class.

    Raises:
        BadInputError: The file is too large, is no such table, or lists no class.
    """
    try:
        text = read_small(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    tables = (parse(text) for parse in (_itk_snap, _bids, _colour_table))
    found = next((table for table in tables if table is not None and table.names), None)
    if found is None:
        raise BadInputError(
            f"{path} is not a list of labels; give ITK-SNAP's label descriptions (.txt, .label), the table of a BIDS "
            "segmentation (.tsv), or a colour table of FreeSurfer or 3D Slicer (.txt, .ctbl)."
        )
    return found


def write_label_table(path: Path, table: LabelTable) -> None:
    """Write a table of classes: as a BIDS table if the name ends in ``.tsv``, else as ITK-SNAP's label descriptions.

    Args:
        path: The file; one that is there is replaced.
        table: The classes.

    Raises:
        UnwritableError: The file cannot be written.
    """
    write_text(path, (bids_text if path.suffix.lower() == ".tsv" else itk_snap_text)(table))


def _itk_snap(text: str) -> LabelTable | None:
    names, colours = dict[int, str](), dict[int, Colour]()
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _DESCRIPTION.fullmatch(line)
        if match is None:
            return None
        label, red, green, blue = (int(part) for part in match.groups()[:4])
        if not (label <= _MOST and max(red, green, blue) <= 255):
            return None
        if label:
            names[label], colours[label] = match[5], (red, green, blue)
    return LabelTable(names, colours)


def _bids(text: str) -> LabelTable | None:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if not rows or not {"index", "name"} <= set(rows[0]):
        return None
    columns = {name: number for number, name in enumerate(rows[0])}
    names, colours = dict[int, str](), dict[int, Colour]()
    for row in rows[1:]:
        index = row[columns["index"]] if len(row) > max(columns["index"], columns["name"]) else ""
        if not (index.isascii() and index.isdigit() and int(index) <= _MOST):
            return None
        if int(index):
            names[int(index)] = row[columns["name"]]
            given = row[columns["color"]] if columns.get("color", len(row)) < len(row) else ""
            match = _HEX.fullmatch(given)
            if match is not None:
                colours[int(index)] = int(match[1], 16), int(match[2], 16), int(match[3], 16)
    return LabelTable(names, colours)


def _colour_table(text: str) -> LabelTable | None:
    names, colours = dict[int, str](), dict[int, Colour]()
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _COLOUR_ROW.fullmatch(line)
        if match is None:
            return None
        label, red, green, blue = int(match[1]), int(match[3]), int(match[4]), int(match[5])
        if not (label <= _MOST and max(red, green, blue) <= 255):
            return None
        if label:
            names[label], colours[label] = match[2], (red, green, blue)
    return LabelTable(names, colours)


def _plain(name: str) -> str:
    """A name on one line, without tabs; one of nothing else is a question mark."""
    return " ".join(name.split()) or "?"
