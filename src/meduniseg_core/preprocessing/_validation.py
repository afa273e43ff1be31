"""Pydantic's findings as one sentence for a reader."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """Where the first fault is and what it is, e.g. ``plans.0.patch: Field required (and 2 more)``."""
    faults = error.errors(include_url=False, include_input=False)
    fault = faults[0]
    where = ".".join(str(part) for part in fault["loc"])
    text = str(fault["msg"]).removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {text}{more}" if where else f"{text}{more}"
