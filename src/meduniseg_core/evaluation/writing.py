"""A report on the disk."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.evaluation.html import html_text
from meduniseg_core.evaluation.report import Report
from meduniseg_core.files import write_bytes, write_text


def write_report(report: Report, folder: Path) -> dict[str, Path]:
    """Write ``report.json``, ``report.csv``, ``report.html`` and the pictures (``worst.png``, ...) into ``folder``.

    Each file is whole or not there. Returns the files by kind: json, csv, html and the pictures' ranks.
    """
    folder = Path(folder)
    written = {"json": folder / "report.json", "csv": folder / "report.csv", "html": folder / "report.html"}
    for picture in report.pictures:
        written[picture.rank] = folder / f"{picture.rank}.png"
        write_bytes(written[picture.rank], picture.png)
    write_text(written["csv"], report.csv_text())
    write_text(written["html"], html_text(report))
    write_text(written["json"], report.json_text())
    return written
