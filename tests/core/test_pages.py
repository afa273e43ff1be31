"""Pages of reports: what a stranger wrote stays text, and what is not measured is a dash."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from meduniseg_core.evaluation.cases import CaseScores, ClassScores
from meduniseg_core.evaluation.html import html_text
from meduniseg_core.evaluation.report import Report, ReportPicture
from meduniseg_core.pages import render

HOSTILE = "a' onerror='x <script>&\"b"


class Page(HTMLParser):
    """The page's tags, its pictures' attributes and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "td":
            self.cells.append("")
        self._in_cell = tag == "td"

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def report_of(hd95: float | None) -> Report:
    scores = ClassScores(
        label=1, name=HOSTILE, dice=0.5, hd95=hd95, surface_dice=None, prediction_volume=1, reference_volume=2
    )
    case = CaseScores(case=HOSTILE, dimension=3, unit="mm", classes=(scores,))
    picture = ReportPicture(rank="worst", case=HOSTILE, png=b"\x89PNG")
    return Report(title=HOSTILE, tolerance=2, notes=(HOSTILE,), cases=(case,), pictures=(picture,))


def test_names_from_files_are_text_in_cells_and_in_captions() -> None:
    page = Page(html_text(report_of(3.0)))
    assert "script" not in page.tags
    assert page.images == [{"alt": "worst case", "src": "data:image/png;base64,iVBORw=="}]
    # by class: Dice, WDice, HD95, surface Dice, lesion F1, volume error; by case: Dice, classes' Dice and HD95
    assert page.cells == [HOSTILE, "0.500", "0.500", "3.00", "–", "–", "1.00", HOSTILE, "0.500", "0.500", "3.00"]


def test_what_was_not_measured_is_a_dash() -> None:
    cells = Page(html_text(report_of(None))).cells
    assert cells == [HOSTILE, "0.500", "0.500", "–", "–", "–", "1.00", HOSTILE, "0.500", "0.500", "–"]


def test_a_page_never_leaves_out_in_silence_what_it_was_not_given() -> None:
    with pytest.raises(UndefinedError):
        render("evaluation.html", title="x")
