"""Where DICOM lies in a folder and below it (a CD, a cohort), and which files make one image.

A folder of slices is one image. Files that each hold a whole image (X-rays, photographs, ultrasound, multi-frame
volumes) are one image each. A series whose slices lie in several folders is one image (see `dicom_spread`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats import ENDINGS, ending_of, stem_of

DEPTH = 12
"""How far below a folder DICOM is looked for."""

_GENERIC = frozenset({"dicom", "dicoms", "dcm", "images", "data"})  # folder names that say nothing of what is in them
_LOOKED_AT = 40  # files of each folder, where only asked whether there is DICOM
_TOMOGRAPHIC = frozenset({"CT", "MR", "PT"})


@dataclass(frozen=True)
class DicomPlace:
    """One image: ``path`` is a file or a folder of slices; ``fault`` says why it could not be looked into.

    ``more`` are the other folders of its series, where that is spread over several. ``findings`` are what the user must
    know about it.
    """

    name: str
    path: Path
    fault: BadInputError | None = None
    more: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths that ``read_image`` takes to read it."""
        return (self.path, *self.more)


def dicom_places(folder: Path) -> list[DicomPlace]:
    """Find the DICOM images in a folder and its subfolders.

    An image's name joins its first folder below ``folder`` with those of the further folders (and the file's name) that
    tell images apart. An image right in ``folder``, or the only one, is named after ``folder`` itself.

    Args:
        folder: Where to look, at most `DEPTH` folders down.

    Returns:
        The images, sorted by path, each with a name of its own.
    """
    found = list(_below(folder, (), set()))
    if not found:
        return []
    from meduniseg_core.images.formats.dicom_spread import Spread, spread_series  # late: pydicom takes long to import

    joined = {spread.folders[0]: spread for spread in spread_series([path for _, path, _ in found if path.is_dir()])}
    parts_of = {path: parts for parts, path, _ in found}
    found = [
        (_common([parts_of[part] for part in joined[path].folders]) if path in joined else parts, path, fault)
        for parts, path, fault in found
        if path in joined or not path.is_dir()
    ]
    names = _names([parts for parts, _, _ in found], folder.resolve().name)
    places = []
    for name, (_, path, fault) in zip(names, found, strict=True):
        spread = joined.get(path, Spread((path,)))
        places.append(DicomPlace(name, path, fault, spread.folders[1:], spread.findings))
    return places


def holds_dicom(folder: Path) -> bool:
    """Say whether a folder, or one below it, holds DICOM.

    Args:
        folder: Where to look.

    Returns:
        True where one of the first files of a folder is DICOM by its content.
    """
    return any(True for _ in _below(folder, (), set(), quick=True))


Found = tuple[tuple[str, ...], Path, BadInputError | None]


def _below(folder: Path, parts: tuple[str, ...], seen: set[Path], quick: bool = False) -> Iterator[Found]:
    real = folder.resolve()
    if real in seen or len(parts) > DEPTH:
        return
    seen.add(real)
    try:
        entries = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    except OSError as error:
        reason = f"{folder} cannot be read ({error.strerror}); check its permissions."
        yield parts, folder, BadInputError(reason)
        return
    plain = (item for item in entries if item.is_file())
    files = (item for item in (islice(plain, _LOOKED_AT) if quick else plain) if _may_be_dicom(item))
    if quick:
        yield from ((parts, item, None) for item in files)
    else:
        yield from _images(folder, parts, files)
    for item in entries:
        if item.is_dir():
            yield from _below(item, (*parts, item.name), seen, quick)


def _may_be_dicom(path: Path) -> bool:
    """By content, for names of no other format; a file of DICOM's ending counts, whatever it holds: it gets a fault."""
    ending = ending_of(path)
    if ending is not None:
        return ENDINGS[ending] == "dicom"
    from meduniseg_core.images.formats.dicom_source import is_dicom  # late: pydicom takes long to import

    try:
        return is_dicom(path)
    except BadInputError:
        return False


def _images(folder: Path, parts: tuple[str, ...], files: Iterable[Path]) -> Iterator[Found]:
    """The folder, where it holds slices or one image (and screenshots); else each of its image files."""
    kinds: dict[Path, Kind] = {}
    for path in files:
        kind = _kind(path)
        if kind == "directory":
            continue
        kinds[path] = kind
        if kind == "slice":  # one is enough: the others' headers need not be read
            yield parts, folder, None
            return
    alone = [path for path, kind in kinds.items() if kind != "other"]
    volumes = [path for path, kind in kinds.items() if kind == "volume"]
    pictures_aside = len(volumes) == 1 and all(kinds[path] in ("volume", "screenshot") for path in alone)
    if len(alone) <= 1 or pictures_aside:
        if kinds and (alone or not parts):  # nothing but reports: said where the user pointed
            yield parts, folder, None
        return
    stems = [stem_of(path) for path in alone]
    for path, stem in zip(alone, stems, strict=True):
        yield (*parts, stem if stems.count(stem) == 1 else path.name), path, None


Kind = Literal["slice", "volume", "image", "screenshot", "directory", "other"]


def _kind(path: Path) -> Kind:
    """``slice`` of a stack, an image of its own, a disc's ``directory``, or ``other`` (no image). What is damaged is an
    image with a fault."""
    from pydicom.uid import SecondaryCaptureImageStorage

    from meduniseg_core.images.formats.dicom_choice import Source, is_directory
    from meduniseg_core.images.formats.dicom_files import add_file
    from meduniseg_core.images.formats.dicom_spacing import PROJECTIONS
    from meduniseg_core.images.formats.dicom_stack import is_placed

    source = Source(path.name)
    try:
        add_file(source, path)
    except BadInputError:
        return "image"
    if not source.slices:
        return "directory" if is_directory(source) else "other"
    first = source.slices[0]
    if first.frame is not None and first.position is not None:
        return "volume"
    if first.kind.startswith(SecondaryCaptureImageStorage) and first.position is None:
        return "screenshot"
    if first.frame is not None or first.modality in PROJECTIONS:
        return "image"
    placed = is_placed([first]) or first.location is not None or first.modality in _TOMOGRAPHIC
    return "slice" if placed else "image"


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """How the paths begin: a series in several folders is named after the folder above them."""
    length = next((n for n, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), min(map(len, paths)))
    return paths[0][:length]


def _names(paths: list[tuple[str, ...]], own: str) -> list[str]:
    """Names for images at ``paths``: parts at which the tree of folders branches, and the first that says something."""
    names = ["_".join(_telling(path, paths)) or own for path in paths]
    twice = {name for name in names if names.count(name) > 1}
    return ["_".join(path) if name in twice and path else name for name, path in zip(names, paths, strict=True)]


def _telling(path: tuple[str, ...], paths: Iterable[tuple[str, ...]]) -> list[str]:
    kept = []
    for level, part in enumerate(path):
        beside = {other[level] if len(other) > level else None for other in paths if other[:level] == path[:level]}
        if len(beside) > 1 or (level == 0 and part.casefold() not in _GENERIC):
            kept.append(part)
    return kept
