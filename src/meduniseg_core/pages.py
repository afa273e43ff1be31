"""Renders reports as self-contained HTML pages: no scripts, no network, pictures embedded (``templates/``)."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **content: object) -> str:
    """Render a page from a template.

    In addition to Jinja2's own filters, templates have ``number`` (digits after the point; a dash for None) and ``png``
    (image bytes as a data URI).

    Args:
        template: the name of a file in ``templates/``.
        **content: the template's variables; every value is escaped.

    Returns:
        The page's HTML.

    Raises:
        jinja2.UndefinedError: the template uses a variable that is not in ``content``.
    """
    return _environment().get_template(template).render(content)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: only reports need it

    environment = Environment(
        loader=PackageLoader("meduniseg_core"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    environment.filters["png"] = _png
    return environment


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _png(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
