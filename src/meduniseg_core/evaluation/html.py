"""The report as one HTML page."""

from __future__ import annotations

from meduniseg_core.evaluation.report import Report
from meduniseg_core.pages import render


def html_text(report: Report) -> str:
    """Write a report as one HTML page. Every name that came from a file is escaped.

    Args:
        report: The report. Pictures are linked by their file names.

    Returns:
        The page's text.
    """
    units = {case.unit for case in report.cases}
    unit = units.pop() if len(units) == 1 else None
    return render(
        "evaluation.html",
        title=report.title,
        report=report,
        cases=sorted(report.cases, key=lambda case: (case.dice, case.case)),
        unit=f" {unit}" if unit is not None else "",
        volume_unit="" if unit is None else " ml" if unit == "mm" else " px",
    )
