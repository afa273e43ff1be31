"""The gate's report on the disk: JSON that can be read back, CSV, and one HTML page with the worst cases' pictures."""

from __future__ import annotations

import base64
import csv
import io
from html import escape
from pathlib import Path

from meduniseg_core.adaptation.gate_report import GateReport, by_gain
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import Report, write_report
from meduniseg_core.evaluation.html import STYLE, number, table
from meduniseg_core.evaluation.report import ReportPicture
from meduniseg_core.files import write_bytes, write_text


def write_gate(report: GateReport, folder: Path) -> dict[str, Path]:
    """Write ``gate.json``, ``gate.csv``, ``gate.html``, the pictures, and the evaluation report of each side
    (``before/``, ``after/``) into ``folder``; each file is whole or not there. Returns the files by kind."""
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
    write_text(written["html"], _html(report))
    write_text(written["json"], report.model_dump_json(indent=2) + "\n")
    return written


def read_gate(folder: Path) -> GateReport | None:
    """What :func:`write_gate` wrote; None where there is none. BadInputError where it is damaged."""
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


def _html(report: GateReport) -> str:
    title = f"{report.task}: {report.base} and {report.candidate}"
    ordered = by_gain(report.pairs)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p class='big'>{report.verdict.capitalize()}</p><p>{escape(report.reason)}</p>",
        *(f"<p class='note'>{escape(note)}</p>" for note in (report.bias, *report.notes) if note),
        "<h2>Classes</h2>",
        table(
            ["Class", "Dice before", "Dice after", "HD95 before", "HD95 after"],
            [
                [c.name, number(c.dice_before), number(c.dice_after), number(c.hd95_before, 2), number(c.hd95_after, 2)]
                for c in report.classes
            ],
        ),
        "<h2>Cases, worst change first</h2>",
        table(
            ["Case", "Dice before", "Dice after", "Gain"],
            [
                [
                    pair.after.case,
                    number(pair.before.dice if pair.before is not None else None),
                    number(pair.dice_after),
                    number(pair.gain),
                ]
                for pair in ordered
            ],
        ),
    ]
    changed = [(pair.after.case, pair.corrected) for pair in ordered if pair.corrected is not None]
    if changed:
        parts.append("<h2>What the annotators changed</h2>")
        parts.append(
            table(
                [
                    "Case",
                    "Began as output of",
                    "Voxels changed",
                    "Right before",
                    "Right after",
                    "Classes",
                ],
                [
                    [
                        case,
                        one.model,
                        f"{one.changed:,}",
                        number(None if one.right_before is None else float(one.right_before), 0),
                        number(float(one.right_after), 0),
                        ", ".join(f"{c.name} +{c.added or 0:,} -{c.removed or 0:,}" for c in one.classes),
                    ]
                    for case, one in changed
                ],
            )
        )
    if report.pictures:
        left = "Before left, after in the middle" if report.dice_before is not None else "The new model left"
        parts.append(f"<h2>Worst cases</h2><p>{left}, the accepted labels right.</p>")
    for picture in report.pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        parts.append(
            f"<figure><img alt='{escape(picture.case)}' src='data:image/png;base64,{data}'>"
            f"<figcaption>{escape(picture.case)}</figcaption></figure>"
        )
    parts.append(f"<h2>Empty masks</h2><p>{escape(report.policy)}</p></body></html>\n")
    return "\n".join(parts)
