"""What the server takes on at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the server.

    ``upload_bytes`` of one upload as it is sent, ``unpacked_bytes`` and ``files`` of an archive, ``waiting`` jobs
    beside the one that runs (those still being sent count), and ``keep_seconds`` that a result waits to be fetched.
    """

    upload_bytes: int = 2 << 30
    unpacked_bytes: int = 8 << 30
    files: int = 20_000
    waiting: int = 16
    keep_seconds: float = 600.0
