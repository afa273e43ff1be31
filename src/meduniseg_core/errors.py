"""The program's errors, in the words that a user reads.

Every error carries one sentence that names the file, the reason and the remedy, and the exit code that the command line
returns for it. Nothing in the core raises a bare ``RuntimeError`` for a user's mistake.
"""

from __future__ import annotations

import errno
import sys
from typing import ClassVar

_ALLOCATOR_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows
    "[enforce fail at alloc_cpu.cpp",
    "MPS backend out of memory",
    "CUDA error: out of memory",  # outside PyTorch's own pool: page-locked memory, the driver
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a memory object",  # oneDNN
    "std::bad_alloc",
    "Failed to allocate memory",  # ITK
    "Cannot allocate memory",  # the system's own words, passed on by a library
    "Caught MemoryError in DataLoader worker",  # an error of a process that prepares batches comes as text
    "_ArrayMemoryError",
    "Unable to allocate",  # NumPy's, likewise
    "is killed by signal: Killed",  # the system ended such a process for want of memory
)
_WINDOWS_SHORTAGES = (8, 14, 1455)  # not enough memory, out of memory, paging file too small


class MedUniSegError(Exception):
    """Base of all errors that are meant for a user; ``str(error)`` is one complete sentence."""

    exit_code: ClassVar[int] = 1


class UsageError(MedUniSegError):
    """The request itself is wrong (an unknown task, an impossible combination of options)."""

    exit_code = 2


class BadInputError(MedUniSegError):
    """A file, an image or a data set cannot be used as it is."""

    exit_code = 3


class UnwritableError(BadInputError, OSError):
    """A folder cannot be written to: the disk is full or read-only, or permission is missing. No partial file is left.

    It is also an OSError, for callers that can do without the file.
    """

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(
            f"{folder} cannot be written to ({reason}); make room or permit writing there, or choose another folder."
        )
        self.reason = self.strerror = reason


class OutOfMemoryError(MedUniSegError):
    """Memory ran out, even with the most economical execution plan."""

    exit_code = 4


class NonFiniteLossError(MedUniSegError):
    """The training loss became NaN or infinite; the message names the case."""

    exit_code = 3


class NonFiniteOutputError(BadInputError):
    """The network's logits contain NaN or infinite values, so no labels can be computed.

    ``subject`` says of what ("task spleen on scan.nii.gz"), ``remedy`` what to do. A caller that can run the same again
    at a higher precision catches it.
    """

    def __init__(self, subject: str, remedy: str) -> None:
        super().__init__(f"The network's output for {subject} holds NaN or infinite values; {remedy}.")
        self.subject = subject


class CancelledError(MedUniSegError):
    """The user stopped the work; no partial file is left."""

    exit_code = 130


class RequeueError(CancelledError):
    """A cluster asked for the machine: the work is saved, and wants to be started again."""

    exit_code = 75  # sysexits.h: a temporary failure, try again


class LostProcessError(MedUniSegError):
    """A process that this one works with is gone; what was saved is whole."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, an accelerator's or a library's. Any other RuntimeError is
    a bug.

    Most allocators raise a type of their own; PyTorch's on the CPU and those of C++ libraries are known only by their
    message, the system's by its error code. PyTorch is never imported just for this check.

    Args:
        error: the caught error.

    Returns:
        True if memory ran out.
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_SHORTAGES
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATOR_TEXTS)


def message_of(error: BaseException, longest: int = 200) -> str:
    """Shorten a library's message for a sentence of ours.

    Args:
        error: the caught error.
        longest: characters that are kept.

    Returns:
        Its text on one line; empty where it has none.
    """
    return " ".join(str(error).split())[:longest]


def explain(error: BaseException) -> tuple[str, int]:
    """Describe any error to a user.

    Args:
        error: the caught error.

    Returns:
        The sentence that the user reads, and the command's exit code.
    """
    if isinstance(error, MedUniSegError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", CancelledError.exit_code
    if is_out_of_memory(error):
        return (
            "This machine's memory does not suffice; close other programs or use a smaller image.",
            OutOfMemoryError.exit_code,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"{error.filename}: the disk" if error.filename is not None else "The disk"
        return f"{place} is full; make room or choose another folder.", BadInputError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        reason = (error.strerror or "cannot be used").lower()
        return f"{error.filename}: {reason}; check the path and its permissions.", BadInputError.exit_code
    kind = type(error).__name__
    detail = " ".join(str(error).split()) or "no details"
    return f"Unexpected {kind}: {detail}; run again with --debug and report what it prints.", MedUniSegError.exit_code
