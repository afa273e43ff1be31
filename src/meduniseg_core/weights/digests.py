"""The sha256 of an installed file, recorded beside it when it was installed."""

from __future__ import annotations

import re
from pathlib import Path

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import write_text

ENDING = ".sha256"
"""What the record's name adds to the file's."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def recorded_digests(path: Path) -> tuple[str, ...]:
    """Read what is recorded of a file.

    Args:
        path: the file; it is not read.

    Returns:
        The digest; two while the file is being replaced, none if there is no record.

    Raises:
        BadInputError: the record is damaged.
    """
    record = digest_file(path)
    try:
        with record.open(encoding="ascii") as stream:
            text = stream.read(4096)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{record}: the recorded sha256 cannot be read; install the file again.") from error
    digests = tuple(line.split(maxsplit=1)[0] for line in text.splitlines() if line.split())
    if not digests or not all(map(_SHA256.fullmatch, digests)):
        raise BadInputError(f"{record}: the recorded sha256 is not one; install the file again.")
    return digests


def record_digests(path: Path, *digests: str) -> None:
    """Record what a file's sha256 may be.

    Args:
        path: the file.
        digests: its sha256; while it is being replaced, the old and the new one.
    """
    write_text(digest_file(path), "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests)))


def digest_file(path: Path) -> Path:
    """Name the record of a file.

    Args:
        path: the file.

    Returns:
        The record's path.
    """
    return path.with_name(path.name + ENDING)


def checked_sha256(sha256: str | None) -> str | None:
    """Check a sha256 that a user gives.

    Args:
        sha256: 64 hexadecimal digits in any capitals, with or without "sha256:" before them; None for none.

    Returns:
        The digits in lower case; None for None.

    Raises:
        UsageError: it is not a sha256.
    """
    if sha256 is None:
        return None
    digest = sha256.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(digest):
        raise UsageError(f"'{sha256}' is not a sha256; it has 64 hexadecimal digits.")
    return digest
