"""Any error as the sentence that a user reads, and its exit code, which scripts rely on."""

from __future__ import annotations

import errno
import traceback

import typer

from meduniseg_core.errors import MedUniSegError, is_out_of_memory

EXIT_OK, EXIT_BUG, EXIT_USAGE, EXIT_BAD_INPUT, EXIT_MEMORY, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


_debugging = False


def show_tracebacks(wanted: bool) -> None:
    """Whether ``--debug`` was given."""
    global _debugging
    _debugging = wanted


def show_traceback(error: BaseException) -> None:
    """The traceback on stderr, with ``--debug``."""
    if _debugging:
        traceback.print_exception(error)


def explain(error: BaseException) -> tuple[str, int]:
    """The sentence a user reads about ``error``, and the exit code."""
    if isinstance(error, MedUniSegError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage_sentence(error), EXIT_USAGE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "Interrupted.", EXIT_INTERRUPTED
    if is_out_of_memory(error):
        return "This machine's memory does not suffice; close other programs or use a smaller image.", EXIT_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"{error.filename}: the disk" if error.filename is not None else "The disk"
        return f"{place} is full; make room or choose another folder.", EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        reason = (error.strerror or "cannot be used").lower()
        return f"{error.filename}: {reason}; check the path and its permissions.", EXIT_BAD_INPUT
    kind = type(error).__name__
    detail = " ".join(str(error).split()) or "no details"
    return f"Unexpected {kind}: {detail}; run again with --debug and report what it prints.", EXIT_BUG


def _usage_sentence(error: typer.TyperException) -> str:
    # "Value error, " is pydantic's, by which typer checks the values
    text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "meduniseg"
    return f"{text}; see '{command} --help'."
