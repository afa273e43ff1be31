"""Reports as HTML pages that need nothing else: no script, no network, pictures inside (``templates/``)."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **content: object) -> str:
    """Make a page from a template.

    Beside Jinja2's own filters templates have ``number`` (digits after the point; a dash for None) and ``png`` (the
    bytes of a picture as a data URI).

    Args:
        template: a file's name in ``templates/``.
        **content: what the template names; every value is escaped.

    Returns:
        The page's HTML.

    Raises:
        jinja2.UndefinedError: the template names something that ``content`` does not hold.
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
