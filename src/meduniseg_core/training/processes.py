"""A training in several processes, as ``torchrun`` or ``srun`` starts them: NCCL between GPUs, Gloo between CPUs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from typing_extensions import override

from meduniseg_core.errors import LostProcessError, message_of
from meduniseg_core.training.group import Group
from meduniseg_core.training.place import Place
from meduniseg_core.training.watch import BEFORE_BLAME, Lost, Watch

_START = timedelta(minutes=10)  # for a process to appear; until then a slow one and a dead one look the same
_WAIT = timedelta(minutes=30)  # for a process that is alive and slow: writing a checkpoint, scoring more cases
_PART = 1 << 20  # characters of a text that are sent at once: the store refuses values above 8 MiB


def _wait_for_leader(seconds: float) -> None:
    """Wait until the first process listens. torch would wait twice as long, and print pages about it.

    Raises:
        RuntimeError: it does not.
    """
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    end = time.monotonic() + seconds
    while host and port.isdecimal():  # what is missing is said by torch
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing answers at {host}:{port} ({message_of(error)})") from error
            time.sleep(0.2)


class Joined(Group):
    """One of several processes that train together; a context that ends when all of them have finished.

    Args:
        place: this process's place.
        lost: called from another thread with a sentence and an exit code when another process is gone or failed; it
            must end this process.

    Raises:
        LostProcessError: the other processes cannot be reached.
    """

    def __init__(self, place: Place, lost: Lost) -> None:
        self.rank, self.size = place.rank, place.size
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        try:
            if place.rank:
                _wait_for_leader(_START.total_seconds())
            store, _, _ = next(rendezvous("env://", rank=place.rank, world_size=place.size, timeout=_START))
            self._store = PrefixStore(f"meduniseg/{attempt}", store)
            self._for_group = PrefixStore(f"meduniseg/{attempt}/group", store.clone())
            self._watch = Watch(PrefixStore(f"meduniseg/{attempt}/watch", store.clone()), place, lost)
            self._asked, self._left = 0, False
            self._watch.start()
            self._store.add("here", 1)
            began = time.monotonic()
            while self._store.add("here", 0) < self.size:
                if time.monotonic() - began > _START.total_seconds():
                    raise RuntimeError("some processes did not start")
                time.sleep(0.05)
        except (RuntimeError, ValueError) as error:
            raise LostProcessError(
                f"Process {place.rank} of {place.size} cannot reach the others ({message_of(error)}); "
                "check MASTER_ADDR and MASTER_PORT, and that all processes were started."
            ) from error

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.stop()
        if self._left and dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()

    @override
    def connect(self, device: torch.device) -> None:
        with self._blaming():
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=self._for_group,
                rank=self.rank,
                world_size=self.size,
                timeout=_WAIT,
            )

    @override
    def leave(self) -> None:
        with self._blaming():
            self._store.add("left", 1)
            while self._store.add("left", 0) < self.size:
                time.sleep(0.1)
            # the process that holds the store for the others leaves last
            self._store.add("gone", 1)
            began = time.monotonic()
            while self.leads and self._store.add("gone", 0) < self.size and time.monotonic() - began < BEFORE_BLAME:
                time.sleep(0.05)
        self._left = True
        self._watch.stop()

    @override
    def add_up(self, tensor: Tensor) -> Tensor:
        with self._blaming():
            dist.all_reduce(tensor)
        return tensor

    @override
    def take_over(self, tensors: Iterable[Tensor]) -> None:
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for own in by_type.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in own])
            with self._blaming():
                dist.broadcast(flat, 0)
            for tensor, part in zip(own, torch.split(flat, [tensor.numel() for tensor in own]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    @override
    def all_of(self, text: str) -> list[str]:
        self._asked += 1
        name = f"all/{self._asked}"
        with self._blaming():
            self._send(f"{name}/{self.rank}", text)
            return [self._receive(f"{name}/{rank}") for rank in range(self.size)]

    @override
    def told(self, name: str, text: str | None) -> str:
        with self._blaming():
            if text is not None:
                self._send(f"told/{name}", text)
                return text
            return self._receive(f"told/{name}")

    @override
    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        with self._watch.uninterrupted():
            yield

    def failed(self, sentence: str, code: int) -> bool:
        """Report why this process ends, so that the others end, too.

        Args:
            sentence: the error message for the user.
            code: the exit code.

        Returns:
            Whether this process should print the sentence: another may have ended first, or have printed the same.
        """
        if self._left:  # all processes end in the same way
            return self.leads
        return self._watch.failed(sentence, code)

    def _send(self, key: str, text: str) -> None:
        parts = range(0, len(text), _PART)
        for number, first in enumerate(parts):
            self._store.set(f"{key}/{number}", text[first : first + _PART])
        self._store.set(key, str(len(parts)))  # last: whoever finds it finds all parts

    def _receive(self, key: str) -> str:
        while not self._store.check([key]):
            time.sleep(0.1)
        parts = [self._store.get(f"{key}/{number}") for number in range(int(self._store.get(key)))]
        return b"".join(parts).decode("utf-8")

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Turn a connection that broke into an error that names the process that is gone."""
        try:
            yield
        except RuntimeError as error:
            raise LostProcessError(self._watch.blame(message_of(error))) from error
