"""Turns pydantic's validation errors into one sentence for a reader."""

from __future__ import annotations

from pydantic import ValidationError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
"""Of names that become files' names: models, packs, tasks, cases, runs."""

_NAME_RULE = "a name is of letters, digits, '_', '.' and '-', and begins with a letter or digit"


def first_fault(error: ValidationError) -> str:
    """Describe the first fault that a schema found.

    Args:
        error: pydantic's error.

    Returns:
        The place and the fault, e.g. ``plans.0.patch: Field required (and 2 more)``.
    """
    where, text = place_and_fault(error)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {text}{more}" if where else f"{text}{more}"


def place_and_fault(error: ValidationError) -> tuple[str, str]:
    """The place and the text of the first fault.

    Args:
        error: pydantic's error.

    Returns:
        The place as ``plans.0.patch`` (empty for the whole), and the fault: of names in plain words, of all else in
        pydantic's or the validator's.
    """
    fault = error.errors(include_url=False, include_input=False)[0]
    text = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == NAME_PATTERN:
        text = _NAME_RULE
    return ".".join(str(part) for part in fault["loc"]), text
