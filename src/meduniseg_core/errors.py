"""What can go wrong, said once, in the words a user reads.

Every error carries one sentence that names the file, the reason and the remedy, and the exit code the
command line returns for it. Nothing in the core raises a bare ``RuntimeError`` for a user's mistake.
"""

from __future__ import annotations

import sys
from typing import ClassVar


class MedUniSegError(Exception):
    """Base of all errors that are meant for a user; ``str(error)`` is one complete sentence."""

    exit_code: ClassVar[int] = 1


class UsageError(MedUniSegError):
    """The request itself is wrong (unknown task, impossible combination of options)."""

    exit_code = 2


class BadInputError(MedUniSegError):
    """A file, an image or a data set cannot be used as it is."""

    exit_code = 3


class OutOfMemoryError(MedUniSegError):
    """The last rung of the memory ladder was not low enough."""

    exit_code = 4


class NonFiniteLossError(MedUniSegError):
    """Training met a NaN or infinite loss; the message names the case."""

    exit_code = 3


class CancelledError(MedUniSegError):
    """The user stopped the work; nothing half-written is left."""

    exit_code = 130


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python's or PyTorch's memory has run out. PyTorch is never imported just to ask."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))
