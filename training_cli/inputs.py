"""Which cases the arguments of ``segment`` name: files, channel groups, DICOM folders, folders of cases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.errors import BadInputError, UsageError

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
_ALONE = -1  # the file CASE.ext beside CASE_0000.ext


@dataclass(frozen=True)
class Case:
    """One image to segment: a file, a folder of DICOM, or one file per channel in their order."""

    name: str
    paths: tuple[Path, ...]

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """As ``read_image`` takes it."""
        return self.paths[0] if len(self.paths) == 1 else self.paths


def collect_cases(arguments: Sequence[Path]) -> list[Case]:
    """All cases, folders' first.

    BadInputError for a path that is missing or a folder without images; UsageError where two cases have one name,
    so that they would write the same result.
    """
    from meduniseg_core.images import find_cases

    cases: list[Case] = []
    files: list[Path] = []
    for path in dict.fromkeys(arguments):
        if path.is_dir():
            cases += [Case(name, paths) for name, paths in find_cases(path).items()]
        elif path.is_file():
            files.append(path)
        else:
            raise BadInputError(f"{path} does not exist; check the path.")
    cases += group_channels(files)
    _refuse_equal_names(cases)
    return cases


def group_channels(files: Iterable[Path]) -> list[Case]:
    """Files CASE_0000.ext, CASE_0001.ext, ... of one folder are one case; every other file is a case of its own.

    Numbered files without a _0000 among them (scan_0042.nii.gz, IMG_0007.jpg) are not channels: a shell's wildcard may
    well name a part of a folder only. BadInputError where a channel in between is missing.
    """
    from meduniseg_core.images.formats import ending_of, stem_of

    groups: dict[tuple[Path, str, str], dict[int, Path]] = {}
    for path in files:
        match = _CHANNEL.match(stem_of(path))
        case, channel = (match["case"], int(match["channel"])) if match else (stem_of(path), _ALONE)
        groups.setdefault((path.parent, case, ending_of(path) or ""), {})[channel] = path
    cases: list[Case] = []
    for (folder, case, ending), group in groups.items():
        if 0 not in group:
            cases += [Case(stem_of(path), (path,)) for path in group.values()]
            continue
        if _ALONE in group:
            cases.append(Case(case, (group.pop(_ALONE),)))
        missing = sorted(set(range(max(group))) - set(group))
        if missing:
            raise BadInputError(
                f"{folder / case}_{missing[0]:04d}{ending} is missing among the channels; add that file."
            )
        cases.append(Case(case, tuple(group[channel] for channel in sorted(group))))
    return cases


def _refuse_equal_names(cases: Sequence[Case]) -> None:
    """Names are compared as file systems do that ignore upper and lower case."""
    seen: dict[str, Case] = {}
    for case in cases:
        other = seen.setdefault(case.name.casefold(), case)
        if other is not case:
            raise UsageError(
                f"{other.paths[0]} and {case.paths[0]} are both called '{case.name}', so one's result would overwrite "
                "the other's; rename one or segment them into different folders."
            )
