"""The gate's report on disk: JSON that can be read back, CSV, and one HTML page with pictures of the worst cases."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from meduniseg_core.adaptation.gate_report import GateReport, by_gain
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import Report, write_report
from meduniseg_core.evaluation.report import ReportPicture
from meduniseg_core.files import remove_orphans, write_bytes, write_text
from meduniseg_core.pages import render


def write_gate(report: GateReport, folder: Path) -> dict[str, Path]:
    """Write a report: ``gate.json``, ``gate.csv``, ``gate.html``, pictures, and the evaluation of each side.

    The evaluations are in ``before/`` and ``after/``. Each file is written completely or not at all.

    Args:
        report: the report.
        folder: the folder to write into.

    Returns:
        The main files by kind: ``csv``, ``html``, ``json``.
    """
    remove_orphans(folder)
    written = {kind: folder / f"gate.{kind}" for kind in ("csv", "html", "json")}
    for side in ("before", "after"):
        scores = [pair.before if side == "before" else pair.after for pair in report.pairs]
        known = tuple(case for case in scores if case is not None)
        if known:
            model = report.base if side == "before" else report.candidate
            title = f"{report.task} by {model}, validation cases"
            write_report(Report(title=title, tolerance=2.0, cases=known), folder / side)
    for position, picture in enumerate(report.pictures, start=1):
        write_bytes(folder / f"worst_{position}.png", picture.png)
    write_text(written["csv"], _csv(report))
    title = f"{report.task}: {report.base} and {report.candidate}"
    write_text(written["html"], render("gate.html", title=title, report=report, pairs=by_gain(report.pairs)))
    write_text(written["json"], report.model_dump_json(indent=2) + "\n")
    return written


def read_gate(folder: Path) -> GateReport | None:
    """Read a report written by :func:`write_gate`.

    Args:
        folder: the folder it was written into.

    Returns:
        The report with its pictures; None if there is none.

    Raises:
        BadInputError: the report is damaged.
    """
    path = folder / "gate.json"
    if not path.is_file():
        return None
    try:
        report = GateReport.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise BadInputError(f"{path}: is not a gate's report; run 'meduniseg runs gate' again.") from error
    pictures = tuple(
        ReportPicture(rank="worst", case=case, png=file.read_bytes())
        for case, file in zip(report.worst, sorted(folder.glob("worst_*.png")), strict=False)
    )
    return report.model_copy(update={"pictures": pictures})


def _csv(report: GateReport) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "unit", "class", "dice_before", "dice_after", "hd95_before", "hd95_after"])
    for pair in report.pairs:
        former = {scores.label: scores for scores in pair.before.classes} if pair.before is not None else {}
        for scores in pair.after.classes:
            old = former.get(scores.label)
            values = (old.dice if old else None, scores.dice, old.hd95 if old else None, scores.hd95)
            writer.writerow(
                [pair.after.case, pair.after.unit, scores.name, *("" if v is None else f"{v:.6g}" for v in values)]
            )
    return stream.getvalue()
