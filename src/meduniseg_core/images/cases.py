"""Which files make one case: ``CASE_0000.ext``, ``CASE_0001.ext``, ... are the channels of CASE (nnU-Net's naming).

This is the one rule for folders, lists of files, data sets and corrections. Cohorts often number their patients in the
same style, so the rule depends on how many files the task takes per case (`channels`; None: not known):

- Without a ``_0000`` file, numbers are never channels (amos_0001, IMG_0417): every file is a case of its own.
- A task with one file per case has no channels to number: pat_0000 and pat_0001 are two cases. Only a single ``_0000``
  is nnU-Net's mark of the first channel and not part of the case's name.
- Otherwise, files numbered from 0000 on are the channels of one case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats import ENDINGS, channel_of, ending_of, stem_of
from meduniseg_core.images.formats.dicom_folders import dicom_places

_LEVELS, _LOOKED_INTO = 4, 50  # how far below a folder an error looks for images, and into how many folders of a level
_PHOTOGRAPHS = (".webp", ".gif", ".jfif", ".pgm", ".ppm", ".pnm", ".jp2", ".heic", ".avif", ".psd")
_SCANS = (".hdr", ".img", ".mgz", ".mgh", ".mnc", ".svs", ".ndpi", ".czi")
_UNREAD = frozenset((*_PHOTOGRAPHS, *_SCANS))
"""Endings of images that are not read."""
_ALONE = -1  # the file CASE.ext beside CASE_0000.ext


@dataclass(frozen=True)
class Case:
    """One image to read: a file, a DICOM folder, or one file per channel, in channel order.

    ``fault`` says why these files cannot be read as a case (a channel is missing, say); None where they can.
    ``findings`` are what the user must know about how the files were found.
    """

    name: str
    paths: tuple[Path, ...]
    fault: BadInputError | None = field(default=None, compare=False)
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """The path or paths, as ``read_image`` takes them."""
        return self.paths[0] if len(self.paths) == 1 else self.paths


def find_cases(
    folder: str | Path, file_ending: str | None = None, channels: int | None = None
) -> dict[str, tuple[Path, ...]]:
    """Find the cases of a folder, all of which must be usable.

    Args:
        folder: The folder to look in.
        file_ending: The only ending to accept, as in nnU-Net's dataset.json; None for every known format.
        channels: How many files a case has; None where that is not known (see this module's text).

    Returns:
        Each case's name and its files (one per channel), sorted by name.

    Raises:
        BadInputError: The folder is missing or holds no image, or a case is faulty (the first one is named).
    """
    cases = folder_cases(folder, file_ending, channels)
    for case in cases:
        if case.fault is not None:
            raise case.fault
    return {case.name: case.paths for case in cases}


def folder_cases(
    folder: str | Path,
    file_ending: str | None = None,
    channels: int | None = None,
    passed_over: Callable[[Path], bool] = lambda _path: False,
) -> list[Case]:
    """Find the cases of a folder, including those that cannot be used.

    A colour image is one file. DICOM is looked for in subfolders, too: a folder of slices is one case, and so is a file
    that is an image of its own, such as an X-ray (see `dicom_folders`). Hidden files and files of other kinds are
    ignored.

    Args:
        folder: The folder to look in.
        file_ending: The only ending to accept, as in nnU-Net's dataset.json; None for every known format.
        channels: How many files a case has; None where that is not known (see this module's text).
        passed_over: Returns True for a file to ignore.

    Returns:
        The cases sorted by name; a case that cannot be used has a ``fault``.

    Raises:
        BadInputError: The folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder; check the path.")
    files: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        ending = _ending(path, file_ending)
        readable = ending is not None and (file_ending is not None or ENDINGS[ending] != "dicom")
        if readable and not passed_over(path):
            files.append(path)
    cases = group_files(files, channels, file_ending)
    if file_ending is None:
        cases += [Case(place.name, place.paths, place.fault, place.findings) for place in dicom_places(folder)]
    if not cases:
        wanted = f"{file_ending} files" if file_ending else "known image files, and no DICOM in it or below it"
        raise BadInputError(f"{folder} holds no {wanted}; {_where_images_are(folder, file_ending)}.")
    return sorted(each_once(cases), key=lambda case: case.name)


def images_left_out(folder: str | Path, passed_over: Callable[[Path], bool] = lambda _path: False) -> list[Finding]:
    """Find what `folder_cases` leaves out of a folder though it looks like an image.

    Args:
        folder: The folder.
        passed_over: Returns True for a file to ignore.

    Returns:
        One finding for files of formats that are not read (a warning), one for folders below it with images.
    """
    folder, found = Path(folder), []
    entries = _entries(folder)
    unread = [path.name for path in entries if path.suffix.lower() in _UNREAD and path.is_file()]
    if unread:
        text = f"{folder} holds images of formats that are not read, which are left out: {_some(unread)}; convert them."
        found.append(Finding("slices_chosen", text))
    below = [item.name for item in entries if item.is_dir() and _holds_images(item, passed_over)]
    if below:
        text = f"{folder} has images in folders below it, which are left out ({_some(below)}): give those folders, too."
        found.append(Finding("slices_chosen", text, "info"))
    return found


def _holds_images(folder: Path, passed_over: Callable[[Path], bool]) -> bool:
    """Whether a folder has a file of a known format; DICOM is found by its content, and not left out."""
    endings = ((path, _ending(path, None)) for path in _entries(folder)[:_LOOKED_INTO])
    return any(
        ending is not None and ENDINGS[ending] != "dicom" and path.is_file() and not passed_over(path)
        for path, ending in endings
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _where_images_are(folder: Path, file_ending: str | None) -> str:
    """What to do about a folder without images: images of other formats than DICOM are not looked for below it."""
    level = [folder]
    for _ in range(_LEVELS):
        level = [item for above in level for item in _entries(above) if item.is_dir()][:_LOOKED_INTO]
        for below in level:
            found = next((path for path in _entries(below) if _ending(path, file_ending) and path.is_file()), None)
            if found is not None:
                return f"there are images below it, in {below.relative_to(folder)}: give that folder, or a wildcard"
    return "check the folder"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def group_files(files: Iterable[Path], channels: int | None = None, file_ending: str | None = None) -> list[Case]:
    """Group files into cases. Files in different folders never make one case.

    Args:
        files: Paths of images.
        channels: How many files a case has; None where that is not known (see this module's text).
        file_ending: The ending that all files have; None for every known format.

    Returns:
        The cases in order of first appearance. Two of them may have the same name.
    """
    groups: dict[tuple[Path, str], dict[int, list[Path]]] = {}
    for path in files:
        case, channel = channel_of(_stem(path, file_ending))
        groups.setdefault((path.parent, case), {}).setdefault(_ALONE if channel is None else channel, []).append(path)
    return [case for (_, name), group in groups.items() for case in _cases(name, group, channels, file_ending)]


def each_once(cases: Iterable[Case], same_name: Callable[[str], str] = str) -> list[Case]:
    """Merge cases of one name into one case with a fault.

    Args:
        cases: The cases.
        same_name: Gives the same text for names that count as one.

    Returns:
        The cases in order of first appearance, each name once.
    """
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        by_name.setdefault(same_name(case.name), []).append(case)
    return [_one_of(same) for same in by_name.values()]


def _cases(name: str, group: dict[int, list[Path]], channels: int | None, file_ending: str | None) -> Iterator[Case]:
    """The cases of the files NAME.ext and NAME_0000.ext, NAME_0001.ext, ..."""
    for path in group.pop(_ALONE, ()):
        yield Case(name, (path,))
    if 0 not in group or (channels == 1 and len(group) > 1):
        for number in sorted(group):
            for path in group[number]:
                yield Case(_stem(path, file_ending), (path,))
        return
    paths = [path for number in sorted(group) for path in group[number]]
    if channels == 1:
        for path in paths:  # of two formats: two cases of one name
            yield Case(name, (path,))
        return
    yield Case(name, tuple(paths), _fault(name, group, channels, file_ending))


def _fault(name: str, group: dict[int, list[Path]], channels: int | None, ending: str | None) -> BadInputError | None:
    """Why the numbered files cannot be the channels of one case, if so."""
    paths = [path for number in sorted(group) for path in group[number]]
    count = max(group) + 1
    if channels is not None and count > 1:  # a single file may hold all channels
        count = max(count, channels)
    for channel in range(count):
        if channel not in group:
            missing = paths[0].with_name(f"{name}_{channel:04d}{paths[0].name[len(_stem(paths[0], ending)) :]}")
            return BadInputError(f"Case {name} has no channel {channel:04d} ({missing} is missing); add that file.")
        if len(group[channel]) > 1:
            return BadInputError(_twice(name, group[channel]))
    if channels is not None and count > channels:
        return BadInputError(
            f"{paths[0].name} to {paths[-1].name} are {len(paths)} files, and a case has {channels} channels here; "
            "leave the others out, or number each case's files from _0000 on."
        )
    endings = sorted({path.name[len(_stem(path, ending)) :].lower() for path in paths})
    if len(endings) > 1:
        return BadInputError(f"Case {name} has channels in several formats ({', '.join(endings)}); use one format.")
    return None


def _one_of(same: list[Case]) -> Case:
    if len(same) == 1:
        return same[0]
    paths = tuple(dict.fromkeys(path for case in same for path in case.paths))
    return replace(same[0], paths=paths, fault=BadInputError(_twice(same[0].name, paths)), findings=())


def _ending(path: Path, wanted: str | None) -> str | None:
    if wanted is None:
        return ending_of(path)
    name = path.name.lower()
    return wanted if name.endswith(wanted.lower()) and len(name) > len(wanted) else None


def _stem(path: Path, file_ending: str | None) -> str:
    return stem_of(path) if file_ending is None else path.name[: -len(file_ending)]


def _twice(case: str, paths: Iterable[Path]) -> str:
    paths = list(paths)
    in_one_folder = len({path.parent for path in paths}) == 1
    listed = ", ".join(path.name if in_one_folder else str(path) for path in paths)
    remedy = "keep one of them" if in_one_folder else "rename one, or segment them into different folders"
    return f"Case {case} is there more than once ({listed}); {remedy}."
