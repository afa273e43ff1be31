"""A line chart as SVG: the project has no plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 44, 48
COLOURS = ("#1f6f8b", "#c1666b", "#6b8f3f")


def curve_svg(title: str, across: str, up: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """``curves``: name -> points (x, y), x rising from 0. The y axis begins near the lowest value."""
    points = [point for own in curves.values() for point in own]
    x_step, y_step = _step(max(x for x, _ in points)), _step(max(y for _, y in points) - min(y for _, y in points))
    x_end = x_step * math.ceil(max(x for x, _ in points) / x_step)
    low = y_step * math.floor(min(y for _, y in points) / y_step)
    high = y_step * math.ceil(max(y for _, y in points) / y_step)

    def place(x: float, y: float) -> tuple[float, float]:
        right, down = x / x_end, (high - y) / (high - low)
        return LEFT + right * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
        _text(WIDTH / 2, HEIGHT - 10, across, "middle"),
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{up}</text>',
    ]
    for index in range(round((high - low) / y_step) + 1):
        x, y = place(0, low + index * y_step)
        parts.append(f'<line x1="{x}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(x - 6, y + 4, f"{low + index * y_step:g}", "end"))
    for index in range(round(x_end / x_step) + 1):
        x, y = place(index * x_step, low)
        parts.append(_text(x, y + 18, f"{index * x_step:g}", "middle"))
    for number, (name, own) in enumerate(curves.items()):
        colour, places = COLOURS[number], [place(*point) for point in own]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        at = HEIGHT - BOTTOM - 12 - 18 * (len(curves) - 1 - number)
        parts.append(f'<text x="{WIDTH - RIGHT - 8}" y="{at}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, four to ten of which make up ``span``."""
    power = 10 ** math.floor(math.log10(span / 4)) if span > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 10)
