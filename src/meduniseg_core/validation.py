"""Checks what files hold by pydantic's schemas, and turns a fault into one sentence for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from meduniseg_core.errors import BadInputError, message_of
from meduniseg_core.files import MAX_SMALL_BYTES, read_small
from meduniseg_core.structured_text import parse_json

_Schema = TypeVar("_Schema", bound=BaseModel)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}$"
"""The form of names that become files' names: of models, packs, tasks, cases and runs. Disks take 255 bytes, of which
endings and the marks of temporary files take some."""

_NAME_RULE = "a name is of letters, digits, '_', '.' and '-', and begins with a letter or digit; at most 200 of them"


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


def read_as(path: Path, schema: type[_Schema], what: str, remedy: str, max_bytes: int = MAX_SMALL_BYTES) -> _Schema:
    """Read a small JSON file of one kind.

    Args:
        path: the file.
        schema: what it must hold.
        what: the kind, in words ("a list of boxes").
        remedy: what to do about a file that is none.
        max_bytes: take no larger file.

    Returns:
        Its content.

    Raises:
        BadInputError: it is missing, cannot be read, is larger, is not JSON, or holds something else; the sentence
            names the file.
    """
    try:
        return schema.model_validate(parse_json(read_small(path, max_bytes)))
    except ValidationError as error:
        fault = first_fault(error)
    except ValueError as error:
        fault = f"it is not JSON: {message_of(error)}"
    raise BadInputError(f"{path} is not {what} ({fault}); {remedy}.")
