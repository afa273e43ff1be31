"""The report as one HTML file that needs nothing else: no script, no network, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from meduniseg_core.evaluation.report import Report

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { display: inline-block; margin: 0 1rem 1rem 0; }
figure img { max-width: 100%; }
.big { font-size: 1.6rem; }
.note { background: #fff6dd; padding: .3rem .8rem; }
"""


def html_text(report: Report) -> str:
    """The whole page as text; every name that came from a file is escaped."""
    summary, interval = report.dice, report.interval
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><h1>{escape(report.title)}</h1>",
        f"<p class='big'>Mean Dice {number(summary.mean)}",
        f" <small>({interval.confidence:.0%} bootstrap interval {interval.low:.3f} to {interval.high:.3f}, "
        f"{len(report.cases)} cases)</small></p>",
        f"<p>2D mean {number(summary.mean_2d)}, 3D mean {number(summary.mean_3d)}.</p>",
        *(f"<p class='note'>{escape(note)}</p>" for note in report.notes),
        "<h2>Classes</h2>",
        table(
            ["Class", "Dice", f"HD95{_unit(report)}", f"Surface Dice at {report.tolerance:g}{_unit(report)}"],
            [[c.name, number(c.dice), number(c.hd95, 2), number(c.surface_dice)] for c in report.classes],
        ),
    ]
    if report.pictures:
        parts.append("<h2>Pictures</h2><p>Prediction left, reference right.</p>")
        for picture in report.pictures:
            data = base64.b64encode(picture.png).decode("ascii")
            parts.append(
                f"<figure><img alt='{escape(picture.rank)} case' src='data:image/png;base64,{data}'>"
                f"<figcaption>{picture.rank.capitalize()}: {escape(picture.case)}</figcaption></figure>"
            )
    names = [summary.name for summary in report.classes]
    rows = [
        [case.case + (" (prediction missing)" if case.missing else ""), number(case.dice)]
        + [number(scores.dice) for scores in case.classes]
        + [number(_worst([scores.hd95 for scores in case.classes]), 2)]
        for case in sorted(report.cases, key=lambda case: (case.dice, case.case))
    ]
    parts += [
        "<h2>Cases, worst first</h2>",
        table(["Case", "Mean Dice", *(f"Dice {name}" for name in names), f"Largest HD95{_unit(report)}"], rows),
        f"<h2>Empty masks</h2><p>{escape(report.policy)}</p>",
        "<p>Dice per foreground class, mean over classes, mean over cases. HD95 is the larger of the two directed 95th "
        "percentiles between boundary voxels.</p></body></html>\n",
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; every cell is escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return (
        f"<table><thead>{row(head, 'th')}</thead><tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>"
    )


def number(value: float | None, digits: int = 3) -> str:
    """The value as text; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def _unit(report: Report) -> str:
    units = {case.unit for case in report.cases}
    return f" {units.pop()}" if len(units) == 1 else ""


def _worst(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
