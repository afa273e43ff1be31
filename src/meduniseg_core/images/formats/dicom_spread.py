"""DICOM series whose slices lie in several folders, as some archives and CDs split them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.decoding import Stamp, stamp_of
from meduniseg_core.images.formats.dicom_choice import Source, choose
from meduniseg_core.images.formats.dicom_files import add_file
from meduniseg_core.images.formats.dicom_stack import stack_geometry

_NAMED = 6  # folders that a sentence names at most
_LOCK = Lock()
_last: dict[Stamp, Source] = {}


@dataclass(frozen=True)
class Spread:
    """Folders that are read as one image. ``findings`` say why folders of one series could not be joined."""

    folders: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()


def spread_series(folders: Sequence[Path]) -> list[Spread]:
    """Find out which folders hold one series between them.

    Folders of one patient and series UID are joined if all their slices make one even stack. If slices share places,
    the folders are copies, or belong to two patients whose numbers an anonymiser made equal; then each is an image of
    its own.

    Args:
        folders: Folders of slices.

    Returns:
        The folders in their order; joined ones stand at the place of the first.
    """
    by_series: dict[tuple[str, str], list[Path]] = {}
    for folder in folders:
        known = _series_in(folder)
        by_series.setdefault(known or ("", str(folder)), []).append(folder)
    found: dict[Path, Spread] = {}
    for same in by_series.values():
        for spread in _joined(same):
            found[spread.folders[0]] = spread
    return [found[folder] for folder in folders if folder in found]


def source_in(folders: Sequence[Path]) -> Source:
    """All that lies directly in some folders. Their headers are read once while no file changes.

    Args:
        folders: The first one names the source.

    Returns:
        What their files hold.
    """
    files = [path for folder in folders for path in sorted(folder.iterdir()) if _is_visible_file(path)]
    stamp = stamp_of(files)
    with _LOCK:
        known = _last.get(stamp) if stamp is not None else None
    if known is None:
        known = Source("")
        for path in files:
            add_file(known, path)
        if stamp is not None:
            with _LOCK:
                _last.clear()  # one source: they are large, and it is the same one that is asked for again
                _last[stamp] = known
    return Source(str(folders[0]), list(known.slices), list(known.others))


def _is_visible_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def are_one(folders: Sequence[Path]) -> bool:
    """Say whether folders hold one series between them.

    Args:
        folders: At least two.

    Returns:
        False where each holds an image of its own, such as a channel.
    """
    return len(spread_series(folders)) == 1


def joined_finding(folders: Sequence[Path]) -> Finding:
    """Make the finding that a series was read from several folders.

    Args:
        folders: All of them.

    Returns:
        A finding of level "info".
    """
    return Finding("slices_chosen", f"One series lies in the folders {_named(folders)}; it is read as one.", "info")


def _series_in(folder: Path) -> tuple[str, str] | None:
    """Patient and UID of the first slice with a place; None where there is none."""
    for path in sorted(folder.iterdir()):
        if not _is_visible_file(path):
            continue
        source = Source(path.name)
        try:
            add_file(source, path)
        except BadInputError:
            continue
        if source.slices and source.slices[0].frame is None and source.slices[0].position is not None:
            return source.slices[0].patient, source.slices[0].uid
    return None


def _joined(folders: list[Path]) -> list[Spread]:
    if len(folders) == 1:
        return [Spread((folders[0],))]
    try:
        sources = [source_in([folder]) for folder in folders]
        places = [{item.position for item in choose(source)[0]} for source in sources]
        if len(set().union(*places)) < sum(map(len, places)):
            return _by_parent(folders)
        chosen, _ = choose(_together(sources))
        stack_geometry(chosen, folders[0].name)
    except BadInputError:
        text = (
            f"One series lies in the folders {_named(folders)}, and together its slices make no even stack: each is "
            "read alone and may be a part; put the whole series into one folder."
        )
        return [Spread((folder,), (Finding("slices_chosen", text),)) for folder in folders]
    return [Spread(tuple(folders))]


def _by_parent(folders: list[Path]) -> list[Spread]:
    """Folders that cannot all be one series: those beside each other may be."""
    siblings: dict[Path, list[Path]] = {}
    for folder in folders:
        siblings.setdefault(folder.parent, []).append(folder)
    if len(siblings) == 1:
        return [Spread((folder,)) for folder in folders]
    return [spread for group in siblings.values() for spread in _joined(group)]


def _together(sources: Sequence[Source]) -> Source:
    """What :func:`source_in` makes of all the folders, without reading them again."""
    whole = Source(sources[0].name)
    for source in sources:
        whole.slices += source.slices
        whole.others += source.others
    return whole


def _named(folders: Sequence[Path]) -> str:
    names = [str(Path(*folder.parts[-2:])) for folder in folders[:_NAMED]]
    return " and ".join(names) + (f" and {len(folders) - _NAMED} more" if len(folders) > _NAMED else "")
