"""Converts every download in a folder: each subfolder is one data set's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.conversion.convert import ConversionResult, convert_dataset
from meduniseg_core.conversion.find import recognise
from meduniseg_core.conversion.table import CONVERSIONS, Conversion, find_conversion
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message, ignore


@dataclass(frozen=True)
class Download:
    """A subfolder and the data set that it is the download of."""

    conversion: Conversion
    folder: Path


def find_downloads(source: Path) -> tuple[list[Download], list[Path]]:
    """Find out what the subfolders of a folder are: by their names, else by the files in them.

    Args:
        source: A folder with a subfolder for each download.

    Returns:
        The downloads in the table's order, and the subfolders that are none.

    Raises:
        BadInputError: There is no download.
        UsageError: Two subfolders are of one data set.
    """
    if not source.is_dir():
        raise BadInputError(f"{source} is not a folder; give the folder that holds the downloads.")
    found: dict[str, Download] = {}
    others = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
        entry = _entry(folder)
        if entry is None:
            others.append(folder)
        elif entry.name in found:
            raise UsageError(
                f"{found[entry.name].folder} and {folder} are both of {entry.name}; move one of them away, or convert "
                f"it by its name into a folder of its own."
            )
        else:
            found[entry.name] = Download(entry, folder)
    if not found:
        raise BadInputError(
            f"{source} holds no folder that is the download of one of the paper's data sets; 'meduniseg dataset "
            "layouts' shows what they look like."
        )
    return [found[name] for name in CONVERSIONS if name in found], others


def convert_all(
    source: Path,
    folder: Path,
    *,
    seed: int = 0,
    processes: int = 1,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> dict[str, ConversionResult]:
    """Convert all downloads in a folder; what was converted and did not change stays as it is.

    Args:
        source: A folder with a subfolder for each download.
        folder: Receives a data set's folder for each, named as the table names it.
        seed: Of the splits, where there is no official one.
        processes: How many cases to work on at once.
        events: Receives progress, and which subfolders are not downloads.
        cancel: Ends the work between two cases.

    Returns:
        By name what was found and done.

    Raises:
        UsageError: Two subfolders are of one data set, or a folder to write holds something else.
        BadInputError: There is no download.
        CancelledError: ``cancel`` was set.
        UnwritableError: The folder or the disk refuses a file.
    """
    downloads, others = find_downloads(Path(source))
    for other in others:
        if other.resolve() != Path(folder).resolve():
            events(Message("warning", f"{other} is not the download of one of the paper's data sets, and is left out."))
    return {
        one.conversion.name: convert_dataset(
            one.conversion,
            one.folder,
            Path(folder) / one.conversion.name,
            seed=seed,
            processes=processes,
            events=events,
            cancel=cancel,
        )
        for one in downloads
    }


def _entry(folder: Path) -> Conversion | None:
    try:
        return find_conversion(folder.name)
    except UsageError:
        likely = recognise(folder)
        return likely[0] if likely else None
