"""The chain of a TIFF's pages, followed here: tifffile only logs a broken chain and goes on with the pages it has."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular

_PAGE_LIMIT = 1_000_000


def check_pages(path: Path) -> None:
    """Check that all page directories of a TIFF lie within the file.

    Args:
        path: The file.

    Raises:
        BadInputError: The file is not a TIFF, is truncated, has no page, or has a chain of pages that never ends.
    """
    with open_regular(path) as stream:
        start = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = struct.unpack(f"{order}H", start[2:4])[0] if order and len(start) == 16 else 0
        if version == 42:
            count_form, entry, pointer, offset_at = "H", 12, "I", 4
        elif version == 43:
            count_form, entry, pointer, offset_at = "Q", 20, "Q", 8
        else:
            raise BadInputError(f"{path.name} is not a TIFF file, or is empty; export it again.")
        count_size, pointer_size = struct.calcsize(f"{order}{count_form}"), struct.calcsize(f"{order}{pointer}")
        (offset,) = struct.unpack_from(f"{order}{pointer}", start, offset_at)
        size, seen = os.fstat(stream.fileno()).st_size, set[int]()
        while offset:
            if offset in seen or len(seen) > _PAGE_LIMIT:
                raise BadInputError(f"{path.name} has a chain of pages that never ends; export it again.")
            seen.add(offset)
            if offset + count_size > size:
                raise BadInputError(_truncated(path, len(seen)))
            stream.seek(offset)
            (count,) = struct.unpack(f"{order}{count_form}", stream.read(count_size))
            end = offset + count_size + count * entry
            if end + pointer_size > size:
                raise BadInputError(_truncated(path, len(seen)))
            stream.seek(end)
            (offset,) = struct.unpack(f"{order}{pointer}", stream.read(pointer_size))
    if not seen:
        raise BadInputError(f"{path.name} holds no page; export it again.")


def _truncated(path: Path, page: int) -> str:
    return f"{path.name} is truncated: its page {page} should lie beyond its end; copy or export it again."
