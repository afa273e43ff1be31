"""The command ``meduniseg``: its subcommands, and the one place where errors become exit codes.

Nothing heavy (torch, numpy, the image libraries) is imported here or at the top of any subcommand's file, so that
``meduniseg --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from meduniseg_core import __version__
from meduniseg_core.errors import MedUniSegError, is_out_of_memory
from training_cli import (
    catalog,
    corrections,
    dataset,
    doctor,
    evaluate,
    finetune,
    models,
    refine,
    runs,
    segment,
    train,
    viewer,
)
from training_cli.output import print_error

EXIT_OK, EXIT_BUG, EXIT_USAGE, EXIT_BAD_INPUT, EXIT_MEMORY, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

app = typer.Typer(
    name="meduniseg",
    help="One network that segments 2D and 3D medical images of many kinds. For research, not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("tasks")(catalog.tasks)
app.command("modalities")(catalog.modalities)
app.add_typer(models.app, name="models")
app.add_typer(dataset.app, name="dataset")
app.add_typer(corrections.app, name="corrections")
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("refine")(refine.refine)
app.add_typer(runs.app, name="runs")
app.command("evaluate")(evaluate.evaluate)
app.command("napari")(viewer.napari)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"meduniseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="On an error show the traceback too (accepted anywhere).")
    ] = False,
) -> None:
    """Only declares the options for the help page: `run` takes --debug out of the arguments itself."""


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code (DESIGN section 2); errors go to stderr in one sentence."""
    arguments, debug = _without_debug(arguments)
    json_events = _wants_json_events(arguments)
    try:
        result = typer.main.get_command(app).main(list(arguments), prog_name="meduniseg", standalone_mode=False)
        sys.stdout.flush()
        if result == EXIT_INTERRUPTED:  # typer turns a KeyboardInterrupt into this answer
            print_error("Interrupted.", EXIT_INTERRUPTED, as_json=json_events)
        return result if isinstance(result, int) else EXIT_OK
    except BrokenPipeError:
        return _reader_went_away()
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = explain(error)
        if debug:
            traceback.print_exc()
        print_error(sentence, code, as_json=json_events)
        return code


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
    if isinstance(error, OSError) and error.filename is not None:
        reason = (error.strerror or "cannot be used").lower()
        return f"{error.filename}: {reason}; check the path and its permissions.", EXIT_BAD_INPUT
    kind = type(error).__name__
    detail = " ".join(str(error).split()) or "no details"
    return f"Unexpected {kind}: {detail}; run again with --debug and report what it prints.", EXIT_BUG


def run() -> None:
    """The console command."""
    sys.exit(main(sys.argv[1:]))


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, which may stand anywhere before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != "--debug"]
    return head + list(arguments[end:]), len(head) < end


def _wants_json_events(arguments: Sequence[str]) -> bool:
    """Whether a program reads stderr; known before the arguments are parsed, for errors in them."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(pair == ("--progress", "json") or pair[0] == "--progress=json" for pair in pairs)


def _usage_sentence(error: typer.TyperException) -> str:
    # "Value error, " is pydantic's, by which typer checks the values
    text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "meduniseg"
    return f"{text}; see '{command} --help'."


def _reader_went_away() -> int:
    """``meduniseg tasks | head``: end quietly, without a second complaint when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + getattr(signal, "SIGPIPE", 13)
