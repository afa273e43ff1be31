"""What can go wrong, said once, in the words a user reads.

Every error carries one sentence that names the file, the reason and the remedy, and the exit code the
command line returns for it. Nothing in the core raises a bare ``RuntimeError`` for a user's mistake.
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
    """The request itself is wrong (unknown task, impossible combination of options)."""

    exit_code = 2


class BadInputError(MedUniSegError):
    """A file, an image or a data set cannot be used as it is."""

    exit_code = 3


class UnwritableError(BadInputError, OSError):
    """A folder cannot be written to: it is full, read-only or somebody else's. Nothing half-written is left.

    An OSError too, for callers that can do without the file.
    """

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(
            f"{folder} cannot be written to ({reason}); make room or permit writing there, or choose another folder."
        )
        self.reason = self.strerror = reason


class OutOfMemoryError(MedUniSegError):
    """Memory did not suffice, not even for the last execution plan."""

    exit_code = 4


class NonFiniteLossError(MedUniSegError):
    """Training met a NaN or infinite loss; the message names the case."""

    exit_code = 3


class NonFiniteOutputError(BadInputError):
    """The network's logits hold NaN or infinite values: no labels can be made of them.

    ``subject`` says of what ("task spleen on scan.nii.gz"), ``remedy`` what to do. Whoever can run the same again more
    precisely catches it.
    """

    def __init__(self, subject: str, remedy: str) -> None:
        super().__init__(f"The network's output for {subject} holds NaN or infinite values; {remedy}.")
        self.subject = subject


class CancelledError(MedUniSegError):
    """The user stopped the work; nothing half-written is left."""

    exit_code = 130


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, Python's, an accelerator's or a library's own; any other RuntimeError is a bug.

    Most allocators say so by a type, PyTorch's on the CPU and those of libraries in C++ by their words alone, and the
    system by a code. PyTorch is never imported just to ask.

    Args:
        error: what was caught.

    Returns:
        True for a want of memory.
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_SHORTAGES
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATOR_TEXTS)


def explain(error: BaseException) -> tuple[str, int]:
    """Any error as a user meets it.

    Args:
        error: what was raised.

    Returns:
        The sentence a user reads, and the exit code of the command that met it.
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
