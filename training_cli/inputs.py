"""Finds the cases that the arguments of ``segment`` name: files, channel groups, DICOM folders, folders of cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import check_regular

if TYPE_CHECKING:
    from meduniseg_core.events import EventSink
    from meduniseg_core.images import Case, Finding

_MOST_NAMED = 12  # cases, in an error


def check_arguments(arguments: Iterable[Path]) -> None:
    """Refuse a path that is missing, or neither a file nor a folder (BadInputError)."""
    for path in arguments:
        if not path.exists():
            raise BadInputError(f"{path} does not exist; check the path.")
        if not path.is_dir():
            check_regular(path)


def without_results(arguments: Sequence[Path], events: EventSink) -> list[Path]:
    """The arguments without files that this program wrote: a wildcard finds them beside the images, and a folder passes
    over them, too. Each is named; BadInputError where nothing else is given."""
    from meduniseg_core.evaluation.writing import is_output
    from meduniseg_core.events import Message
    from meduniseg_core.former_results import read_record
    from meduniseg_core.provenance import recorded_task

    def written(path: Path) -> bool:
        if path.suffix.lower() == ".json":
            return recorded_task(read_record(path)) is not None or is_output(path)
        return path.is_file() and is_output(path)

    results = [path for path in arguments if written(path)]
    if results and len(results) == len(arguments):
        raise BadInputError(f"{results[0]} is a result of this program, not an image; give the image.")
    for path in results:
        events(Message("info", f"{path} is a result of this program, not an image: it is passed over."))
    return [path for path in arguments if path not in results]


def tell_left_out(arguments: Sequence[Path], events: EventSink) -> list[Finding]:
    """Say which images of the folders given are no cases: of formats that are not read, or in folders below."""
    from meduniseg_core.evaluation.writing import is_output
    from meduniseg_core.events import Message
    from meduniseg_core.images.cases import images_left_out

    found = [finding for path in arguments if path.is_dir() for finding in images_left_out(path, is_output)]
    for finding in found:
        events(Message(finding.level, finding.text))
    return found


def collect_cases(arguments: Sequence[Path], channels: int | None = None) -> list[Case]:
    """All cases, folders' first, those that cannot be used with their fault.

    ``channels`` is how many files the task takes per case (None: unknown). Our own results in a folder are not images.
    Cases of one name, which would write the same result, become one with a fault, as in a folder: a wildcard and a list
    of files cannot be told apart. BadInputError as of :func:`check_arguments` and for a folder without images.
    """
    from meduniseg_core.evaluation.writing import is_output
    from meduniseg_core.images.cases import each_once, folder_cases, group_files

    check_arguments(arguments)
    cases: list[Case] = []
    folders: list[Path] = []  # of each case the folder that was given
    files: list[Path] = []
    for path in dict.fromkeys(_disc(path) for path in arguments):
        if path.is_dir():
            cases += folder_cases(path, channels=channels, passed_over=is_output)
            folders += [path] * (len(cases) - len(folders))
        else:
            files.append(path)
    return each_once(_joined(_told_apart(cases, folders)) + group_files(files, channels), same_name)


def _disc(path: Path) -> Path:
    """A disc's directory (DICOMDIR) stands for the disc: its folder."""
    return path.absolute().parent if path.name.upper() == "DICOMDIR" and path.is_file() else path


def _told_apart(cases: Sequence[Case], folders: Sequence[Path]) -> list[Case]:
    """DICOM series that have one name in several of the given folders (``cohort/*``: CT, CT) get those names, too."""
    names = Counter(same_name(case.name) for case in cases)
    return [
        replace(case, name=f"{folder.resolve().name}_{case.name}")
        if names[same_name(case.name)] > 1 and case.paths[0].is_dir() and case.paths[0] != folder
        else case
        for case, folder in zip(cases, folders, strict=True)
    ]


def _joined(cases: Sequence[Case]) -> list[Case]:
    """The cases, of which several folders given one by one may be parts of one DICOM series."""
    from meduniseg_core.images.formats.dicom_spread import spread_series

    folders = {case.paths[0]: case for case in cases if len(case.paths) == 1 and case.paths[0].is_dir()}
    if len(folders) < 2:
        return list(cases)
    joined = {spread.folders[0]: spread for spread in spread_series(list(folders))}
    kept = [case for case in cases if folders.get(case.paths[0]) is not case or case.paths[0] in joined]
    return [
        replace(case, paths=joined[case.paths[0]].folders, findings=case.findings + joined[case.paths[0]].findings)
        if folders.get(case.paths[0]) is case
        else case
        for case in kept
    ]


def one_case(arguments: Sequence[Path], channels: Sequence[str] | None) -> list[Path]:
    """The files of the one case that the arguments are, in the order of their channels.

    Files numbered _0000, _0001, ... are sorted by that, others stay as they are given. UsageError where the names say
    that they are several cases (`images.cases`); BadInputError as of :func:`check_arguments`, or for a missing channel.
    """
    from meduniseg_core.images.cases import group_files
    from meduniseg_core.images.formats import channel_of, stem_of
    from meduniseg_core.preprocessing import files_per_case

    check_arguments(arguments)
    numbered = [channel_of(stem_of(path))[1] is not None for path in arguments]
    if len(arguments) == 1 or not all(numbered):
        return list(arguments)
    cases = group_files(arguments, None if channels is None else files_per_case(tuple(channels)))
    if len(cases) > 1:
        listed = ", ".join(case.name for case in cases[:5])
        raise UsageError(f"These files are {len(cases)} cases by their names ({listed}); give one case at a time.")
    if cases[0].fault is not None:
        raise cases[0].fault
    return list(cases[0].paths)


def cases_for(arguments: Sequence[Path], channels: Iterable[int]) -> list[Case]:
    """The cases for tasks that take these numbers of files per case; UsageError where the numbers make a difference."""
    first, *others = sorted(set(channels))
    cases = collect_cases(arguments, first)
    for other in others:
        differing = set(cases) ^ set(collect_cases(arguments, other))
        if differing:
            case = min(differing, key=lambda case: (-len(case.paths), case.name))
            raise UsageError(
                f"{case.paths[0].name} to {case.paths[-1].name} are one case for tasks of {other} channels and several "
                f"for tasks of {first}; ask for tasks of one kind at a time."
            )
    return cases


def named_cases(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases of these names, all where none is given; UsageError for a name that no case has."""
    known = [case.name for case in cases]
    for name in names:
        if name not in known:
            listed = ", ".join(known[:_MOST_NAMED]) + (", ..." if len(known) > _MOST_NAMED else "")
            raise UsageError(f"There is no case '{name}'; there are: {listed}.")
    return [case for case in cases if not names or case.name in names]


def same_name(name: str) -> str:
    """Equal for names that some file system takes for one: without regard to case and to how accents are encoded."""
    from meduniseg_core.images.formats import composed

    return composed(name).casefold()
