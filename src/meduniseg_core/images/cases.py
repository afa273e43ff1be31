"""The cases of a folder, by nnU-Net's naming: ``CASE_0000.ext``, ``CASE_0001.ext``, ... are the channels of CASE."""

from __future__ import annotations

import re
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats import ENDINGS, PHOTOGRAPH_FORMATS, ending_of, format_of

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def find_cases(folder: str | Path, file_ending: str | None = None) -> dict[str, tuple[Path, ...]]:
    """The cases of ``folder`` in order of name: case name -> its files, one per channel.

    A colour image is one file; a file without ``_0000`` is a case of its own, as is a subfolder of DICOM (and the
    folder itself, where it holds one). ``file_ending`` (as in dataset.json) restricts to that ending. Hidden files and
    endings that are not images are passed over. Raises BadInputError for a missing folder, one without images, missing
    channels, and one case in several formats.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder; check the path.")
    named: dict[str, dict[int, list[Path]]] = {}
    plain: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if file_ending is None and holds_dicom(path):
                plain.setdefault(path.name, []).append(path)
            continue
        ending = _ending(path, file_ending)
        if ending is None or (file_ending is None and ENDINGS[ending] == "dicom"):
            continue
        stem = path.name[: -len(ending)]
        match = _CHANNEL.match(stem)
        if match is None:
            plain.setdefault(stem, []).append(path)
        else:
            named.setdefault(match["case"], {}).setdefault(int(match["channel"]), []).append(path)
    cases = _assemble(named, plain)
    if not cases and file_ending is None and holds_dicom(folder):
        return {folder.resolve().name: (folder,)}
    if not cases:
        wanted = file_ending or "known image"
        raise BadInputError(f"{folder} holds no {wanted} files; check the folder.")
    return dict(sorted(cases.items()))


def holds_dicom(folder: Path) -> bool:
    """Whether some file directly in ``folder`` begins as DICOM files do (128 bytes, then DICM)."""
    return any(path.is_file() and not path.name.startswith(".") and is_dicom(path) for path in sorted(folder.iterdir()))


def is_dicom(path: Path) -> bool:
    """Whether ``path`` carries DICOM's mark at byte 128."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _ending(path: Path, wanted: str | None) -> str | None:
    if wanted is None:
        return ending_of(path)
    name = path.name.lower()
    return wanted if name.endswith(wanted.lower()) and len(name) > len(wanted) else None


def _assemble(named: dict[str, dict[int, list[Path]]], plain: dict[str, list[Path]]) -> dict[str, tuple[Path, ...]]:
    cases: dict[str, tuple[Path, ...]] = {}
    for case, channels in named.items():
        if 0 not in channels and all(_is_photograph(path) for paths in channels.values() for path in paths):
            # IMG_0001.jpg, IMG_0002.jpg ...: a camera's numbers, not channels
            for paths in channels.values():
                for path in paths:
                    plain.setdefault(path.name[: path.name.rindex(".")], []).append(path)
            continue
        for channel in range(max(channels) + 1):
            if channel not in channels:
                raise BadInputError(
                    f"Case {case} has no channel {channel:04d} ({case}_{channel:04d}.*); add the missing file."
                )
            if len(channels[channel]) > 1:
                raise BadInputError(_twice(case, channels[channel]))
        endings = {path.name[len(f"{case}_0000") :].lower() for paths in channels.values() for path in paths}
        if len(endings) > 1:
            raise BadInputError(
                f"Case {case} has channels in several formats ({', '.join(sorted(endings))}); use one format."
            )
        cases[case] = tuple(channels[channel][0] for channel in sorted(channels))
    for case, paths in plain.items():
        if len(paths) > 1 or case in cases:
            raise BadInputError(_twice(case, [*paths, *cases.get(case, ())]))
        cases[case] = (paths[0],)
    return cases


def _is_photograph(path: Path) -> bool:
    return ending_of(path) is not None and format_of(path) in PHOTOGRAPH_FORMATS


def _twice(case: str, paths: list[Path]) -> str:
    return f"Case {case} is there more than once ({', '.join(path.name for path in paths)}); keep one of them."
