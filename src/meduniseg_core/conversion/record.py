"""What a conversion has done, kept in the converted data set: a line of JSON for each case, appended when it is whole.

A case whose line is missing or torn (the process was killed) is simply converted again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.conversion.table import Subset
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import read_small, write_text
from meduniseg_core.structured_text import parse_json
from meduniseg_core.validation import first_fault

FILE = "conversion.jsonl"
REWRITING = -1
"""The time of change of a file that is about to be written anew."""

_LIMIT = 1 << 30


class OutputFile(BaseModel):
    """A file that was written: its size in bytes, and when it was last changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    changed: int


class ConvertedCase(BaseModel):
    """A case as it was converted: its files, and findings about it (code -> sentence).

    One without outputs was left out, because it has no target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    source: str
    patient: str
    site: str | None = None
    subset: Subset | None = None
    outputs: dict[str, OutputFile] = {}
    findings: dict[str, str] = {}


class ConversionHeader(BaseModel):
    """The first line: which data set this is, the seed of its split, and a hash of the table's entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    seed: int
    recipe: str


@dataclass
class Record:
    """The record of one converted data set; ``stale`` where its file is not as `save` would write it."""

    path: Path
    header: ConversionHeader
    cases: dict[str, ConvertedCase] = field(default_factory=dict)
    stale: bool = True

    @classmethod
    def open(cls, folder: Path, header: ConversionHeader) -> Record:
        """Open the record in a folder, or begin one.

        Args:
            folder: The converted data set. It may not be there yet.
            header: What is to be converted.

        Returns:
            The record; empty where the table's entry has changed since.

        Raises:
            UsageError: The folder holds another data set, or something else.
            BadInputError: The record is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            if folder.exists() and (not folder.is_dir() or any(_visible(folder))):
                raise UsageError(f"{folder} exists already and was not made by 'dataset convert'; give another folder.")
            return cls(path, header)
        lines = read_small(path, _LIMIT).split(b"\n")
        try:
            first = ConversionHeader.model_validate(parse_json(lines[0]))
            cases = [ConvertedCase.model_validate(parse_json(line)) for line in lines[1:-1] if line]
        except ValidationError as error:
            raise BadInputError(f"{path} is not valid ({first_fault(error)}); remove that folder.") from None
        except ValueError as error:
            raise BadInputError(f"{path} is damaged ({error}); remove that folder and convert again.") from None
        if first.dataset != header.dataset:
            raise UsageError(f"{folder} holds {first.dataset} already; give another folder for {header.dataset}.")
        if first.seed != header.seed:
            raise UsageError(f"{folder} was divided with --seed {first.seed}; keep it, or give another folder.")
        latest = {case.case: case for case in cases}
        record = cls(path, header, latest, stale=first != header or bool(lines[-1]) or len(latest) < len(cases))
        if first.recipe != header.recipe:  # the files stay known, so that they may be replaced; none counts as done
            record.cases = {name: case.model_copy(update={"source": ""}) for name, case in record.cases.items()}
        return record

    def save(self) -> None:
        """Write the whole record anew, one line for each case, where it is stale."""
        lines = [self.header.model_dump(), *(case.model_dump() for _, case in sorted(self.cases.items()))]
        if self.stale:
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self.stale = False

    def add(self, case: ConvertedCase) -> None:
        """Append a case whose files are in place.

        Args:
            case: The case.
        """
        self.stale |= case.case in self.cases
        self.cases[case.case] = case
        with self.path.open("ab") as stream:
            stream.write(json.dumps(case.model_dump()).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def subsets(self) -> Mapping[str, Subset]:
        """List the cases that were converted.

        Returns:
            The subset of each.
        """
        return {name: case.subset for name, case in self.cases.items() if case.subset is not None}


def output_file(path: Path) -> OutputFile:
    """Describe a written file.

    Args:
        path: The file.

    Returns:
        Its size and time of change.
    """
    state = path.stat()
    return OutputFile(size=state.st_size, changed=state.st_mtime_ns)


def state_of(path: Path) -> OutputFile | None:
    """Describe a file that may have gone.

    Args:
        path: The file.

    Returns:
        Its size and time of change; None where it is missing.
    """
    try:
        return output_file(path)
    except FileNotFoundError:
        return None


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]
