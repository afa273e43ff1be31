"""The files of a download, and what a case to convert is."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from meduniseg_core.conversion.table import Subset
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image

_DETACHED = (".raw", ".zraw", ".raw.gz")  # the voxels of an .mhd or .nhdr


@dataclass(frozen=True)
class Loaded:
    """A case's voxels: one image per channel file, all on one grid, and the label map on that grid.

    ``unchanged`` are files that hold exactly the image of the same position, so that they can be copied.
    """

    images: tuple[Image, ...]
    labels: Image
    unchanged: tuple[Path | None, ...]


@dataclass(frozen=True)
class SourceCase:
    """A case in a download: ``files`` are all that it is made of, ``load`` reads them.

    Without a ``subset``, it is drawn: ``test_fraction`` of those of its part are for testing (None: the paper's share).

    ``has_target`` says whether anything is labelled, where that decides whether the case is taken. ``detail`` is what
    else it is made of: its rows of a table that all cases share.
    """

    name: str
    patient: str
    site: str | None
    subset: Subset | None
    files: tuple[Path, ...]
    load: Callable[[], Loaded]
    has_target: Callable[[], bool] | None = None
    test_fraction: float | None = None
    detail: str = ""

    def fingerprint(self, root: Path) -> str:
        """Describe the case's files by name, size and time of change.

        Args:
            root: The download's folder, relative to which the names are taken.

        Returns:
            64 hexadecimal digits that change when one of the files does.

        Raises:
            BadInputError: A file has gone.
        """
        digest = hashlib.sha256(self.detail.encode())
        for path in self.files:
            try:
                state = path.stat()
            except OSError as error:
                raise BadInputError(
                    f"{path} cannot be read ({error.strerror}); restore it and convert again."
                ) from error
            name = path.relative_to(root).as_posix()
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class Tree:
    """All files below a folder. Hidden files (macOS leaves one beside every file of the Decathlon) do not count.

    ``without`` is a folder to leave out. With ``most``, only so many files are looked for, and folders that cannot be
    read are passed over; without it they are an error.
    """

    def __init__(self, root: Path, without: Path | None = None, most: int | None = None) -> None:
        self.root = root
        self.paths = sorted(islice(_walk(root, without, strict=most is None), most))

    @cached_property
    def _known(self) -> set[str]:
        return set(self.paths)

    def path(self, relative: str) -> Path:
        """Give the whole path of a file.

        Args:
            relative: As in ``paths``.

        Returns:
            The path.
        """
        return self.root / relative

    def matches(self, pattern: str, exclude: str | None = None) -> Iterator[tuple[str, Mapping[str, str | None]]]:
        """Find files whose path, or its end after a slash, a pattern matches.

        Args:
            pattern: A regular expression; letters' case does not count.
            exclude: Paths in which this is found are passed over.

        Yields:
            Each file's path relative to the root, and the pattern's named groups.
        """
        expression = re.compile(f"(?:.*/)?(?:{pattern})", re.IGNORECASE)
        unwanted = re.compile(exclude, re.IGNORECASE) if exclude is not None else None
        for path in self.paths:
            match = expression.fullmatch(path)
            if match is not None and (unwanted is None or unwanted.search(path) is None):
                yield path, match.groupdict()

    def with_detached(self, relative: str) -> list[Path]:
        """List a file and the file that holds its voxels, for formats that may keep them apart.

        Args:
            relative: As in ``paths``.

        Returns:
            One or two paths.
        """
        paths = [self.path(relative)]
        stem, _, ending = relative.rpartition(".")
        if ending.lower() in ("mhd", "nhdr"):
            paths += [self.path(stem + other) for other in _DETACHED if stem + other in self._known]
        return paths


def _walk(root: Path, without: Path | None, strict: bool) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        if strict:
            raise BadInputError(f"{error.filename} cannot be read ({error.strerror}); check its permissions.")

    seen: set[str] = set()
    left_out = os.path.realpath(without) if without is not None else None
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or real == left_out:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        yield from (name if base == "." else f"{base}/{name}" for name in names if not name.startswith("."))


def safe_case_name(text: str) -> str:
    """Make a case's name that every file system and nnU-Net takes.

    Args:
        text: Any text.

    Returns:
        Letters, digits, ``_``, ``-`` and ``.``, at most 120 of them; others become ``_``.
    """
    plain = re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).strip("_.-")
    return plain[:120] or "case"


def fill_template(template: str, groups: Mapping[str, str | None]) -> str | None:
    """Fill a template of the table.

    Args:
        template: Text with ``{group}`` in it.
        groups: A pattern's named groups.

    Returns:
        The text; None where a group that it names took no part in the match.
    """
    names = re.findall(r"\{(\w+)\}", template)
    if any(groups.get(name) is None for name in names):
        return None
    return template.format_map({name: groups[name] for name in names})
