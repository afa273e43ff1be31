"""A ledger's folder: nnU-Net's raw layout, what lies beside it, and a note with which an interrupted write is undone.

::

    dataset.json  imagesTr/CASE_0000.ext ...  labelsTr/CASE.ext      what nnU-Net and RawDataset read
    ledger.jsonl                                                     the journal of acceptances
    history/CASE.N.ext                                               the label map of acceptance N, replaced since
    predictions/CASE.N.ext                                           the prediction that acceptance N corrected, if any
    .lock  .pending.json                                             while something is being written
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meduniseg_core.corrections.records import CaseName, LedgerEntry
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, remove_leftovers, write_text
from meduniseg_core.former_results import read_record
from meduniseg_core.images import Image
from meduniseg_core.images.formats import stem_of
from meduniseg_core.preprocessing import RawDataset, files_per_case
from meduniseg_core.preprocessing.dataset import IGNORE
from meduniseg_core.structured_text import parse_json

_OURS = ("imagesTr", "labelsTr", "history", "predictions")


class Pending(BaseModel):
    """What acceptance ``sequence`` is about to write; if it is interrupted, these files are removed."""

    model_config = ConfigDict(frozen=True)

    sequence: int = Field(ge=1)
    case: CaseName
    created: tuple[Annotated[str, Field(pattern=r"^(imagesTr|labelsTr|predictions)/[A-Za-z0-9][^/\\]*$")], ...] = Field(
        description="files that were not there before"
    )
    archived: int | None = Field(default=None, description="acceptance whose label goes to history")


@dataclass(frozen=True)
class LedgerFolder:
    """The paths in a ledger whose files end in ``ending``."""

    root: Path
    ending: str

    def images(self, case: str, channels: Sequence[str]) -> tuple[Path, ...]:
        """The files of a case's image: one per channel, or a single one for a colour image.

        Args:
            case: the case's name.
            channels: the ledger's channels.

        Returns:
            The paths, in the order of the channels.
        """
        count = files_per_case(tuple(channels))
        return tuple(self.root / "imagesTr" / f"{case}_{index:04d}{self.ending}" for index in range(count))

    def labels(self, case: str) -> Path:
        """The current label map of a case.

        Args:
            case: the case's name.

        Returns:
            The path.
        """
        return self.root / "labelsTr" / f"{case}{self.ending}"

    def history(self, case: str, sequence: int) -> Path:
        """The label map of an earlier acceptance.

        Args:
            case: the case's name.
            sequence: number of the acceptance.

        Returns:
            The path.
        """
        return self.root / "history" / f"{case}.{sequence}{self.ending}"

    def prediction(self, case: str, sequence: int) -> Path:
        """The prediction that an acceptance corrected.

        Args:
            case: the case's name.
            sequence: number of the acceptance.

        Returns:
            The path.
        """
        return self.root / "predictions" / f"{case}.{sequence}{self.ending}"

    def archive(self, case: str, sequence: int) -> None:
        """Keep a copy of the current label map as that of an earlier acceptance.

        Args:
            case: the case's name.
            sequence: number of the earlier acceptance.
        """
        if self.labels(case).is_file():
            with atomic_path(self.history(case, sequence)) as temporary:
                shutil.copyfile(self.labels(case), temporary)

    def begin(self, pending: Pending) -> None:
        """Record what is about to be written, before anything is.

        Args:
            pending: what will be written.
        """
        remove_leftovers(self.root)  # of a process killed in the line below
        write_text(_pending_path(self.root), pending.model_dump_json())

    def undo(self, pending: Pending) -> None:
        """Undo what was written since :meth:`begin`; may be repeated.

        Args:
            pending: what was to be written.
        """
        for name in pending.created:
            (self.root / name).unlink(missing_ok=True)
        if pending.archived is not None and self.history(pending.case, pending.archived).is_file():
            self.history(pending.case, pending.archived).replace(self.labels(pending.case))
        for folder in (self.root, *(self.root / name for name in _OURS)):
            remove_leftovers(folder)


def read_pending(root: Path) -> Pending | None:
    """Read the note of a write that is in progress or was interrupted.

    Args:
        root: the ledger's folder.

    Returns:
        The note; None if there is none.

    Raises:
        BadInputError: it is damaged.
    """
    path = _pending_path(root)
    try:
        return Pending.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise BadInputError(f"{path} is damaged; remove it after a look at the newest files beside it.") from None


def end_pending(root: Path) -> None:
    """Delete the note of a write.

    Args:
        root: the ledger's folder.
    """
    _pending_path(root).unlink(missing_ok=True)


def copy_contents(root: Path, target: Path) -> None:
    """Copy what a ledger needs for training. Files are linked if the disk supports it, else copied.

    Args:
        root: the ledger's folder.
        target: the folder of the copy; it must not hold one.
    """
    for name in ("imagesTr", "labelsTr", "predictions"):
        (target / name).mkdir(parents=True)
        for file in (root / name).glob("[!.]*"):
            try:
                os.link(file, target / name / file.name)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(file, target / name / file.name)
    for name in ("dataset.json", "ledger.jsonl"):
        shutil.copyfile(root / name, target / name)


def holds_data(root: Path) -> bool:
    """Whether a folder holds cases already, so that no new ledger may be created there.

    Args:
        root: the folder.

    Returns:
        True if any of a data set's or a ledger's subfolders has content.
    """
    folders = (root / name for name in (*_OURS, "imagesTs", "labelsTs"))
    return any(not path.name.startswith(".") for folder in folders if folder.is_dir() for path in folder.iterdir())


def may_describe(root: Path, content: dict[str, Any]) -> bool:
    """Whether the dataset.json of a new ledger may be written.

    Args:
        root: the ledger's folder.
        content: what would be written.

    Returns:
        True if there is none, or the same one from a creation that was interrupted.
    """
    path = root / "dataset.json"
    if not os.path.lexists(path):
        return True
    return path.is_file() and read_record(path) == content


def update_description(dataset: RawDataset, classes: Sequence[str], entries: Sequence[LedgerEntry]) -> None:
    """Update dataset.json: classes, patients and number of cases.

    Other programs' keys are kept, and so is the label "ignore" if an annotator added it.

    Args:
        dataset: the ledger as a data set.
        classes: the names of labels 1, 2, ...
        entries: all acceptances.
    """
    path = dataset.folder / "dataset.json"
    content: dict[str, Any] = parse_json(path.read_bytes())
    latest = {entry.case: entry.patient for entry in entries}
    patients = {case: patient for case, patient in sorted(latest.items()) if patient != case}
    new = {
        **content,
        "labels": numbered(classes, dataset.ignored is not None),
        "patient_of": patients,
        "numTraining": len(latest),
    }
    if new != content:
        write_text(path, description_text(new))


def numbered(classes: Sequence[str], ignore: bool = False) -> dict[str, int]:
    """The ``labels`` of a dataset.json.

    Args:
        classes: the names of labels 1, 2, ...
        ignore: whether voxels may be marked as not annotated.

    Returns:
        The label of the background, the classes and "ignore", numbered from 0.
    """
    names = ("background", *classes, *((IGNORE,) if ignore else ()))
    return {name: label for label, name in enumerate(names)}


def description_text(content: dict[str, Any]) -> str:
    """The text of a dataset.json.

    Args:
        content: a JSON object.

    Returns:
        The file's text.
    """
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def case_name(image: Image, digest: str, taken: set[str]) -> str:
    """Name a new case by its (first) file and the beginning of its hash.

    The name depends on the image alone, so accepting the image again after a crash overwrites what was left of it. It
    never ends in _0000, which nnU-Net takes for a channel; other numbers are part of a case's name (see
    `images.cases`).

    Args:
        image: the case's image.
        digest: the image's hash.
        taken: names in use, case-folded.

    Returns:
        The name.
    """
    stem = stem_of(image.source).removesuffix("_0000") if image.source is not None else "image"
    stem = re.sub(r"[^A-Za-z0-9_.\-]+", "_", stem).strip("_.-")[:48] or "image"
    names = (f"{stem}-{digest[:digits]}" for digits in (12, 24, 64))
    return next(name for name in names if name.casefold() not in taken)


def _pending_path(root: Path) -> Path:
    return root / ".pending.json"
