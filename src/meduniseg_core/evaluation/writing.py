"""Writing of a report to disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from meduniseg_core.evaluation.html import html_text
from meduniseg_core.evaluation.report import Report
from meduniseg_core.files import sha256_of, write_bytes, write_text
from meduniseg_core.former_results import Content, ResultKind, Standing, read_record, standing
from meduniseg_core.outputs import write_result
from meduniseg_core.provenance import is_result

RECORD = "report.json"
_NAMES = ("report.csv", "report.html", "worst.png", "median.png", "best.png")
_SAME_MOMENT = 10.0  # seconds in which all files of a report are written


def _vouched_before(record: Path, _content: Content) -> Mapping[str, str]:
    """The files of a report whose JSON lists none (an older version wrote it): those written at the same moment."""
    there = [path for name in _NAMES if (path := record.with_name(name)).is_file()]
    written = record.stat().st_mtime
    return {path.name: sha256_of(path) for path in there if abs(path.stat().st_mtime - written) < _SAME_MOMENT}


REPORT = ResultKind(
    is_ours=lambda content: {"title", "policy", "tolerance", "cases"} <= content.keys(), vouched_before=_vouched_before
)
"""An evaluation's files with report.json."""


def report_standing(folder: Path) -> Standing:
    """Check what lies where a report is to be written, before the work begins.

    Args:
        folder: The report's folder.

    Returns:
        What `write_report` may replace.

    Raises:
        UsageError: Something lies there that is not a report.
    """
    return standing(Path(folder) / RECORD, _NAMES, REPORT)


def report_files(folder: Path) -> frozenset[str]:
    """List the files of the report that lies in a folder.

    Args:
        folder: Any folder.

    Returns:
        report.json and the names of the files that it vouches for; none where there is no report.
    """
    record = Path(folder) / RECORD
    content = read_record(record)
    return frozenset((record.name, *REPORT.vouched(record, content))) if REPORT.is_ours(content) else frozenset()


def is_output(path: Path) -> bool:
    """Whether this program wrote a file, which then is no image to segment.

    Args:
        path: Any file.

    Returns:
        True for a result (`provenance.is_result`) and for a file of an evaluation's report, its pictures for one.
    """
    return is_result(path) or (path.name in (RECORD, *_NAMES) and path.name in report_files(path.parent))


def write_report(report: Report, folder: Path, *, before: Standing | None = None) -> dict[str, Path]:
    """Write ``report.json``, ``report.csv``, ``report.html`` and the pictures (``worst.png``, ...).

    All files appear at once. A former report is replaced, unless it was changed since.

    Args:
        report: The report.
        folder: The folder to write into; it is made if it does not exist.
        before: What `report_standing` said when the work began.

    Returns:
        The files by kind: json, csv, html and the pictures' ranks.

    Raises:
        UsageError: Something else, or an edited report, is in the way.
        BadInputError: Another program has written there since ``before``.
        UnwritableError: The folder cannot be written to.
    """
    folder = Path(folder)
    files: dict[str, Callable[[Path], object]] = {
        "report.csv": lambda path: write_text(path, report.csv_text()),
        "report.html": lambda path: write_text(path, html_text(report)),
    }
    for picture in report.pictures:
        files[f"{picture.rank}.png"] = lambda path, png=picture.png: write_bytes(path, png)  # type: ignore[misc]
    write_result(folder / RECORD, json.loads(report.json_text()), files, REPORT, before=before)
    pictures: dict[str, Path] = {picture.rank: folder / f"{picture.rank}.png" for picture in report.pictures}
    return {"json": folder / RECORD, "csv": folder / "report.csv", "html": folder / "report.html", **pictures}
