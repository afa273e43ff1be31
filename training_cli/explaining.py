"""Turns any error into the sentence that a user reads, and the exit code that scripts rely on."""

from __future__ import annotations

import traceback
from typing import Any

import typer

from meduniseg_core import errors

EXIT_OK, EXIT_USAGE, EXIT_INTERRUPTED = 0, 2, 130


_debugging = False


def show_tracebacks(wanted: bool) -> None:
    """Turn tracebacks on or off (``--debug``)."""
    global _debugging
    _debugging = wanted


def show_traceback(error: BaseException) -> None:
    """Print the traceback to stderr, with ``--debug`` only."""
    if _debugging:
        traceback.print_exception(error)


def explain_error(error: BaseException) -> tuple[str, int]:
    """The sentence a user reads about ``error``, and the exit code."""
    if isinstance(error, typer.TyperException):
        return _usage_sentence(error), EXIT_USAGE
    if isinstance(error, typer.Abort):
        return "Interrupted.", EXIT_INTERRUPTED
    return errors.explain(error)


def choices_in(error: BaseException) -> dict[str, Any]:
    """What an error's event says besides: the images to choose from, where that is what is missing."""
    if not isinstance(error, errors.BadInputError):
        return {}
    from meduniseg_core.images.choices import choices_of  # late: not every command reads images

    found = choices_of(error)
    return {"choices": found} if found else {}


def _usage_sentence(error: typer.TyperException) -> str:
    # "Value error, " is pydantic's, by which typer checks the values
    text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "meduniseg"
    return f"{text or 'Name a command'}; see '{command} --help'."  # typer says nothing where it shows the help
