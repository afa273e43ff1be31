"""The processes of a training and what they exchange.

Gradients are added up explicitly, not by DistributedDataParallel (DDP). Which parameters a step uses depends on its
task (stems, heads, kernels' slices), the shares of a batch may differ in size or be empty, and a parameter that no
sample used must keep no gradient at all, or momentum and weight decay would move it. DDP handles the first by searching
the graph in every step and does not handle the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from meduniseg_core.errors import CancelledError, RequeueError
from meduniseg_core.events import CancelToken


class Group:
    """A training in a single process, which exchanges nothing; `processes.Joined` is one of several processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the log and the checkpoints."""
        return self.rank == 0

    def share_of(self, count: int) -> range:
        """This process's part of the samples of a batch, or of the cases of a validation.

        Args:
            count: how many there are.

        Returns:
            Their positions. Shares differ by one at most, and are empty where there are more processes than samples.
        """
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def connect(self, device: torch.device) -> None:
        """Prepare for exchanging tensors.

        Args:
            device: where this process's tensors are.

        Raises:
            LostProcessError: the other processes cannot be reached.
        """

    def leave(self) -> None:
        """Wait until all processes have finished.

        Raises:
            LostProcessError: another process is gone.
        """

    def add_up(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes.

        Args:
            tensor: of the same shape in every process; changed in place.

        Returns:
            The sum, the same in every process.

        Raises:
            LostProcessError: another process is gone.
        """
        return tensor

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the leading process.

        Args:
            tensors: of the same shapes and order in every process; changed in place.

        Raises:
            LostProcessError: another process is gone.
        """

    def all_of(self, text: str) -> list[str]:
        """Exchange a short text between all processes; for rare use.

        Args:
            text: this process's own.

        Returns:
            All texts, by rank.

        Raises:
            LostProcessError: another process is gone.
        """
        return [text]

    def told(self, name: str, text: str | None) -> str:
        """Send a text from the leading process to the others.

        Args:
            name: its subject; each name is used once.
            text: the text in the leading process; None in the others, which wait for it as long as that one is alive.

        Returns:
            The text.

        Raises:
            LostProcessError: the leading process is gone.
        """
        assert text is not None
        return text

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Let this process not be ended for another's sake within the block, which writes a file.

        Yields:
            Nothing.
        """
        yield


ALONE = Group()


def asked_to_stop(cancel: CancelToken | None, group: Group) -> tuple[bool, bool]:
    """Look whether this process of several was asked to stop. A process that trains alone may stop at any place.

    Args:
        cancel: the process's token.
        group: the processes that train together.

    Returns:
        Whether it is to stop, and whether it will be started again; both False for a process alone.
    """
    if cancel is None or group.size == 1:
        return False, False
    return cancel.cancelled, cancel.requeue


def raise_if_asked(stop: bool, requeue: bool) -> None:
    """Stop, at the same place in all processes.

    Args:
        stop: whether any process was asked to stop.
        requeue: whether any process will be started again.

    Raises:
        RequeueError: ``requeue`` is set.
        CancelledError: ``stop`` is set.
    """
    if requeue:
        raise RequeueError("Asked to make room.")
    if stop:
        raise CancelledError("Stopped on request.")
