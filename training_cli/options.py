"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from training_cli.session import ProgressMode

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        help="How progress is shown on stderr: a bar, plain lines, one JSON object per event, or not at all.",
    ),
]


def _known_device(text: str) -> str:
    """Refuse what names no device before anything is read; whether it is here is the core's affair."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise typer.BadParameter(f"'{text}' is no device; choose auto, cpu, cuda, cuda:N or mps.")
    return text


Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_known_device,
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where the network runs; 'meduniseg doctor' lists what is here.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option("--precision", help="How precisely; auto measures what is fastest here."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="An installed model or a model file; default: what was adopted for the task, else starter.",
    ),
]
DrawnOn = Annotated[
    Literal["stored", "shown"] | None,
    typer.Option(
        "--drawn-on",
        help="For photographs with an EXIF orientation and masks without one, where their size does not tell: whether "
        "the masks were drawn on the stored pixels or on the photograph as it is shown.",
    ),
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", metavar="OUT_DIR", help="Folder for the results.")]
