"""A page with the curves of a running training: loss, gradient length and Dice of every task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meduniseg_core.files import write_text
from meduniseg_core.pages import render

CURVES_FILE = "curves.html"
_WIDTH, _HEIGHT, _MARGIN = 220, 64, 4
_POINTS = 400  # curves of more points are thinned out


@dataclass(frozen=True)
class Curve:
    """A drawn curve: its SVG path (empty without points), the range and last of its values, the height of a mark."""

    name: str
    path: str
    low: float | None
    high: float | None
    last: float | None
    mark: float | None


@dataclass(frozen=True)
class _Row:
    task: str
    curves: tuple[Curve, ...]
    cut: float | None


def write_curves(folder: Path, name: str, lines: Sequence[Mapping[str, Any]], longest: float) -> None:
    """Write ``folder/curves.html``, which a browser can show while the training goes on.

    Args:
        folder: the run's folder.
        name: the run's name.
        lines: its log, one JSON object per epoch.
        longest: the length to which gradients are clipped.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    tasks = sorted({task for line in lines for task in line.get("task_loss", {})})
    rows = [
        _Row(
            task,
            (
                draw("loss", _points(lines, "task_loss", task)),
                draw("gradient length", _points(lines, "task_gradient", task), log=True, mark=longest),
                draw("Dice", _points(lines, "dice", task)),
            ),
            next((line["task_cut"][task] for line in reversed(lines) if task in line.get("task_cut", {})), None),
        )
        for task in tasks
    ]
    page = render(
        "curves.html",
        title=f"Training of {name}",
        epochs=max((line["epoch"] + 1 for line in lines), default=0),
        rows=rows,
        width=_WIDTH,
        height=_HEIGHT,
        longest=longest,
    )
    write_text(folder / CURVES_FILE, page)


def draw(name: str, points: Sequence[tuple[float, float]], *, log: bool = False, mark: float | None = None) -> Curve:
    """Draw a curve.

    Args:
        name: the name of the values.
        points: (epoch, value), by epoch; values that are not finite or, with ``log``, not positive are left out.
        log: draw the logarithm of the values.
        mark: a value to mark by a line, if it lies within the range of the values.

    Returns:
        The curve, scaled to its own range.
    """
    kept = [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not log)]
    if not kept:
        return Curve(name, "", None, None, None, None)
    low, high = min(y for _, y in kept), max(y for _, y in kept)
    first, last = kept[0][0], kept[-1][0]

    def scaled(value: float, start: float, end: float, size: float) -> float:
        share = 0.5 if end == start else (value - start) / (end - start)
        return round(_MARGIN + share * (size - 2 * _MARGIN), 1)

    def height(value: float) -> float:
        ends = (math.log(low), math.log(high)) if log else (low, high)
        return round(_HEIGHT - scaled(math.log(value) if log else value, *ends, _HEIGHT), 1)

    step = max(1, math.ceil(len(kept) / _POINTS))
    thinned = kept[::-1][::step][::-1]  # keeps the last one
    path = "M" + " L".join(f"{scaled(x, first, last, _WIDTH)} {height(y)}" for x, y in thinned)
    if len(thinned) == 1:
        path += " h1"
    marked = height(mark) if mark is not None and low <= mark <= high else None
    return Curve(name, path, low, high, kept[-1][1], marked)


def _points(lines: Sequence[Mapping[str, Any]], key: str, task: str) -> list[tuple[float, float]]:
    return [(float(line["epoch"]), float(line[key][task])) for line in lines if task in line.get(key, {})]
