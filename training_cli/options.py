"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, overload

import typer

from meduniseg_core.errors import UsageError
from training_cli.progress import ProgressMode

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        help="Show progress on stderr as a bar, as lines, as one JSON object per event, or not at all.",
    ),
]


def _known_device(text: str) -> str:
    """Refuse what is not a device's name before anything is read; the core finds out whether it is available."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise typer.BadParameter(f"'{text}' is not a device; choose auto, cpu, cuda, cuda:N or mps.")
    return text


Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_known_device,
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Device to run on; 'meduniseg doctor' lists those of this machine.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Number format of the network; auto measures which is fastest here."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="An installed model or a model file; default: what is in use for the task, else starter.",
    ),
]
DrawnOn = Annotated[
    Literal["stored", "shown"] | None,
    typer.Option(
        "--drawn-on",
        help="For photographs with an EXIF orientation: whether masks were drawn on the pixels as stored or as shown. "
        "Needed only if the mask's size does not tell.",
    ),
]
_REPORTS = (".json", ".jsonl", ".html", ".csv", ".txt")


def a_folder(path: Path | None) -> Path | None:
    """Refuse the name of a file where a folder is wanted: a folder named scan.nii.gz would be made without a word.

    Args:
        path: as it was given; None where the option was not.

    Returns:
        The path.

    Raises:
        typer.BadParameter: it ends as a file does, and no folder of that name is there.
    """
    from meduniseg_core.images.formats import ENDINGS

    if path is not None and path.name.lower().endswith((*ENDINGS, *_REPORTS)) and not path.is_dir():
        raise typer.BadParameter(f"'{path}' is the name of a file; give a folder, in which files get their own names.")
    return path


OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", callback=a_folder, metavar="OUT_DIR", help="Folder for the results.")
]


@overload
def split_names(text: str) -> list[str]: ...


@overload
def split_names(text: str | None) -> list[str] | None: ...


def split_names(text: str | None) -> list[str] | None:
    """The names in a comma-separated option.

    Args:
        text: as it was given; None where the option was not.

    Returns:
        The names in their order, without the spaces around them; a comma at the end separates nothing.

    Raises:
        UsageError: a name between two commas is empty, and those behind it would count as others.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise UsageError(f"'{text}' has nothing between two commas; name everything, or leave that comma out.")
    return names
