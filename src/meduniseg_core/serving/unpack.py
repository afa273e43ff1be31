"""Unpacks an archive that a stranger sent: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular, writing_into
from meduniseg_core.serving.limits import Limits

_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError)
_BLOCK = 1 << 20
_DEEPEST = 12  # folders
_LONGEST = 200  # characters of one part of a name


def unpack_upload(archive: Path, folder: Path, limits: Limits) -> None:
    """Unpack a zip file.

    Args:
        archive: the file.
        folder: where its files go; it is made.
        limits: how many files and bytes there may be. Bytes are counted as they come, not as the archive says.

    Raises:
        BadInputError: it is damaged or encrypted, a name leads out of the folder or is no ordinary file, or it is too
            large.
        UnwritableError: the disk is full.
    """
    folder.mkdir(parents=True)
    try:
        with open_regular(archive) as stream, zipfile.ZipFile(stream) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            if len(members) > limits.files:
                raise BadInputError(
                    f"{archive.name} holds {len(members)} files, more than {limits.files}; send one series at a time."
                )
            targets = [folder.joinpath(*_checked(member, archive.name)) for member in members]
            left = limits.unpacked_bytes
            for member, target in zip(members, targets, strict=True):
                left -= _write(packed, member, target, left, archive.name)
    except _DAMAGE as error:
        raise BadInputError(f"{archive.name} is not a complete, unencrypted zip file; pack it again.") from error


def _checked(member: zipfile.ZipInfo, archive: str) -> tuple[str, ...]:
    """The parts of a member's name; BadInputError for a name or a kind of file that could lead elsewhere."""
    name = member.filename
    parts = PurePosixPath(name).parts
    mode = member.external_attr >> 16
    plain = (
        parts
        and len(parts) <= _DEEPEST
        and not name.startswith("/")
        and not any(letter in name for letter in '\\:\0*?"<>|')
        and all(part not in ("..", ".") and part.isprintable() and len(part) <= _LONGEST for part in parts)
        # what was packed on a system without such modes has none
        and (stat.S_IFMT(mode) in (0, stat.S_IFREG))
    )
    if not plain:
        shown = "".join(letter if letter.isprintable() else "?" for letter in name[:60])
        raise BadInputError(
            f"{archive} holds '{shown}', which is not a plain file below its own folder; pack it again."
        )
    return parts


def _write(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most: int, archive: str) -> int:
    """Unpack one member of at most ``most`` bytes; returns its bytes."""
    written = 0
    with writing_into(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(member) as source, target.open("xb") as sink:  # x: a name that is there twice is refused
            while block := source.read(_BLOCK):
                written += len(block)
                if written > most:
                    raise BadInputError(f"{archive} is too large once it is unpacked; send one series at a time.")
                sink.write(block)
    return written
