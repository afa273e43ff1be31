"""Finding a data set's cases in a folder, and finding out of which data set a folder is the download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from meduniseg_core.conversion.file_cases import file_cases, grouped
from meduniseg_core.conversion.source import SourceCase, Tree
from meduniseg_core.conversion.table import CONVERSIONS, Conversion, Part


def _dicom_series(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    from meduniseg_core.conversion.dicom_cases import dicom_series_cases  # late: pydicom takes long to import

    return dicom_series_cases(conversion, part, tree)


def _pet_ct(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    from meduniseg_core.conversion.pet_ct import pet_ct_cases

    return pet_ct_cases(conversion, part, tree)


def _contours(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    from meduniseg_core.conversion.contours import contour_cases

    return contour_cases(conversion, part, tree)


def _run_lengths(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    from meduniseg_core.conversion.run_lengths import run_length_cases

    return run_length_cases(conversion, part, tree)


_MOST = 20_000  # files by which a download is recognised

_READERS: Mapping[str, Callable[[Conversion, Part, Tree], list[SourceCase]]] = {
    "files": file_cases,
    "dicom_series": _dicom_series,
    "pet_ct": _pet_ct,
    "contours": _contours,
    "run_lengths": _run_lengths,
}


def find_source_cases(conversion: Conversion, tree: Tree) -> list[SourceCase]:
    """Find a data set's cases in its download.

    Args:
        conversion: The table's entry.
        tree: The download's files.

    Returns:
        The cases of all parts, sorted by name.

    Raises:
        BadInputError: A header or a table in the download is damaged.
    """
    cases = [case for part in conversion.parts for case in _READERS[part.reader](conversion, part, tree)]
    return sorted(cases, key=lambda case: case.name)


def recognise(folder: Path) -> list[Conversion]:
    """Find out of which data sets a folder may be the official download, by the names of its files alone.

    Args:
        folder: Any folder.

    Returns:
        The table's entries for which images with labels are there, the likeliest (most files) first.
    """
    tree = Tree(folder, most=_MOST)
    found = {name: sum(_complete(part, tree) for part in entry.parts) for name, entry in CONVERSIONS.items()}
    return [CONVERSIONS[name] for name in sorted(found, key=lambda name: -found[name]) if found[name]]


def _complete(part: Part, tree: Tree) -> int:
    needed = {id(rule) for rule in part.labels if not rule.optional and part.reader != "run_lengths"}
    if part.reader == "run_lengths" and not any(True for rule in part.labels for _ in tree.matches(rule.files)):
        return 0
    return sum(all(group.images) and needed <= {id(rule) for rule, _ in group.labels} for group in grouped(part, tree))
