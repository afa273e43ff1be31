"""The command ``meduniseg``: its subcommands, and the place where errors become exit codes.

Nothing heavy (torch, numpy, the image libraries) is imported here or at the top of any subcommand's file, so that
``meduniseg --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from meduniseg_core import __version__
from meduniseg_core.errors import UsageError
from training_cli import (
    ablate,
    catalog,
    classify,
    corrections,
    dataset,
    dicom,
    doctor,
    evaluate,
    explain,
    finetune,
    models,
    paper_table,
    refine,
    runs,
    segment,
    serve,
    testing,
    train,
    viewer,
    worklist,
)
from training_cli.commands import Commands
from training_cli.explaining import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    choices_in,
    explain_error,
    show_traceback,
    show_tracebacks,
)
from training_cli.output import print_error, tolerate_streams

app = Commands(
    name="meduniseg",
    help="One network that segments 2D and 3D medical images of many kinds. For research, not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("serve")(serve.serve)
app.command("classify")(classify.classify)
app.command("classify-fit")(classify.classify_fit)
app.command("tasks")(catalog.tasks)
app.command("modalities")(catalog.modalities)
app.add_typer(models.app, name="models")
app.add_typer(dataset.app, name="dataset")
app.add_typer(dicom.app, name="dicom")
app.add_typer(corrections.app, name="corrections")
app.command("worklist")(worklist.worklist)
app.command("train")(train.train)
app.command("test")(testing.test)
app.command("finetune")(finetune.finetune)
app.command("refine")(refine.refine)
app.add_typer(runs.app, name="runs")
app.command("evaluate")(evaluate.evaluate)
app.command("paper-table")(paper_table.paper_table)
app.command("ablate")(ablate.ablate)
app.command("explain")(explain.explain)
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
        bool, typer.Option("--debug", help="Show the traceback of an error, too (accepted anywhere).")
    ] = False,
) -> None:
    """Only declares the options for the help page: `run` takes --debug out of the arguments itself."""


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code (:mod:`.explaining`); an error is one sentence on stderr."""
    tolerate_streams()
    arguments, debug = _without_debug(arguments)
    show_tracebacks(debug)
    json_events = _wants_json_events(arguments)
    try:
        _check_not_empty(arguments)
        _check_folder()
        result = typer.main.get_command(app).main(list(arguments), prog_name="meduniseg", standalone_mode=False)
        sys.stdout.flush()
        if result == EXIT_INTERRUPTED:  # typer turns a KeyboardInterrupt into this answer
            print_error("Interrupted.", EXIT_INTERRUPTED, as_json=json_events)
        return result if isinstance(result, int) else EXIT_OK
    except (BrokenPipeError, SystemExit):  # to which typer turns a broken pipe
        return _reader_went_away()
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = explain_error(error)
        show_traceback(error)
        print_error(sentence, code, as_json=json_events, more=choices_in(error))
        return code


def run() -> None:
    """The console command."""
    sys.exit(main(sys.argv[1:]))


def _check_not_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument (UsageError): as a path it would mean the current folder, with everything in it."""
    if "" in arguments:
        place = arguments.index("")
        before = f" after '{arguments[place - 1]}'" if place else ""
        raise UsageError(
            f"The argument{before} is empty (a variable of the shell that is not set?); give it a value or leave it "
            "out; the current folder is called '.'."
        )


def _check_folder() -> None:
    """Refuse to run in a folder that was removed (UsageError): libraries end the process there."""
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() asks the same
    except OSError as error:
        raise UsageError(
            f"The current folder cannot be used ({(error.strerror or 'it is gone').lower()}); change to another one."
        ) from error


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, which may stand anywhere before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != "--debug"]
    return head + list(arguments[end:]), len(head) < end


def _wants_json_events(arguments: Sequence[str]) -> bool:
    """Whether a program reads stderr; known before the arguments are parsed, for errors in them."""
    return "--progress=json" in arguments or ("--progress", "json") in pairwise(arguments)


def _reader_went_away() -> int:
    """``meduniseg tasks | head``: end quietly, without a second complaint when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + getattr(signal, "SIGPIPE", 13)
