"""A training in several processes, as ``torchrun`` or ``srun`` starts them: NCCL between GPUs, Gloo between CPUs.

A process that is gone must end all others soon, with one sentence. NCCL would wait for it: so every process says once a
second in the launcher's key-value store that it lives, and one in which another falls silent ends itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from meduniseg_core.errors import LostProcessError
from meduniseg_core.training.group import Group
from meduniseg_core.training.place import Place

BEAT_SECONDS = 1.0
SILENT_SECONDS = 20.0
"""A process that says nothing for so long is gone. A busy machine may keep one waiting for seconds."""

_START = timedelta(minutes=10)  # for a process to come; whether it is slow or gone before it came nobody knows
_WAIT = timedelta(minutes=30)  # for a process that lives and is slow: writing a checkpoint, scoring more cases
_BEFORE_BLAME = 4.0  # seconds that a process may take to say why it ends

Lost = Callable[[str, int], None]


class Joined(Group):
    """One of several processes that train together; a context that ends when all have come to its end.

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
            store, _, _ = next(rendezvous("env://", rank=place.rank, world_size=place.size, timeout=_START))
            self._store = PrefixStore(f"meduniseg/{attempt}", store)
            self._for_group = PrefixStore(f"meduniseg/{attempt}/group", store.clone())
            self._watch = _Watch(PrefixStore(f"meduniseg/{attempt}/watch", store.clone()), place, lost)
            self._asked, self._left = 0, False
            self._watch.start()
            self._store.add("here", 1)
            began = time.monotonic()
            while self._store.add("here", 0) < self.size:
                if time.monotonic() - began > _START.total_seconds():
                    raise RuntimeError("not all processes have come")
                time.sleep(0.05)
        except (RuntimeError, ValueError) as error:
            raise LostProcessError(
                f"Process {place.rank} of {place.size} does not reach the others ({_line(error)}); "
                "check MASTER_ADDR and MASTER_PORT, and that all processes were started."
            ) from error

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.stop()
        if self._left and dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def connect(self, device: torch.device) -> None:
        """Prepare for exchanging tensors, see :meth:`Group.connect`.

        Args:
            device: where this process's tensors are.
        """
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=self._for_group,
                rank=self.rank,
                world_size=self.size,
                timeout=_WAIT,
            )
        except RuntimeError as error:
            raise self._failed(error) from error

    def leave(self) -> None:
        """See :meth:`Group.leave`."""
        try:
            self._store.add("left", 1)
            while self._store.add("left", 0) < self.size:
                time.sleep(0.1)
            # who holds the store for the others goes last
            self._store.add("gone", 1)
            began = time.monotonic()
            while self.leads and self._store.add("gone", 0) < self.size and time.monotonic() - began < _BEFORE_BLAME:
                time.sleep(0.05)
        except RuntimeError as error:
            raise self._failed(error) from error
        self._left = True
        self._watch.stop()

    def add_up(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, see :meth:`Group.add_up`.

        Args:
            tensor: of the same shape in every process; changed in place.

        Returns:
            The sum.
        """
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise self._failed(error) from error
        return tensor

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the leading process, see :meth:`Group.take_over`.

        Args:
            tensors: of the same shapes and order in every process; changed in place.
        """
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for own in by_type.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in own])
            try:
                dist.broadcast(flat, 0)
            except RuntimeError as error:
                raise self._failed(error) from error
            for tensor, part in zip(own, torch.split(flat, [tensor.numel() for tensor in own]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def all_of(self, text: str) -> list[str]:
        """What every process says, see :meth:`Group.all_of`.

        Args:
            text: this process's.

        Returns:
            All texts, by rank.
        """
        self._asked += 1
        name = f"all/{self._asked}"
        try:
            self._store.set(f"{name}/{self.rank}", text)
            return [self._wait_for(f"{name}/{rank}") for rank in range(self.size)]
        except RuntimeError as error:
            raise self._failed(error) from error

    def told(self, name: str, text: str | None) -> str:
        """What the leading process says, see :meth:`Group.told`.

        Args:
            name: what it is about.
            text: from the leading process, the text; None from the others.

        Returns:
            The text.
        """
        try:
            if text is not None:
                self._store.set(f"told/{name}", text)
                return text
            return self._wait_for(f"told/{name}")
        except RuntimeError as error:
            raise self._failed(error) from error

    def failed(self, sentence: str, code: int) -> bool:
        """Say why this process ends, so that the others end, too.

        Args:
            sentence: the user's.
            code: the exit code.

        Returns:
            Whether the sentence is still to be said: another process may have ended first, or have said the same.
        """
        if self._left:  # all end alike
            return self.leads
        return self._watch.failed(sentence, code)

    def _wait_for(self, key: str) -> str:
        while not self._store.check([key]):
            time.sleep(0.1)
        found: bytes = self._store.get(key)
        return found.decode("utf-8")

    def _failed(self, error: RuntimeError) -> LostProcessError:
        return LostProcessError(self._watch.blame(_line(error)))


class _Watch:
    """Says that this process lives, and ends it when another is gone."""

    def __init__(self, store: Store, place: Place, lost: Lost) -> None:
        self._store, self._place, self._lost = store, place, lost
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="other processes", daemon=True)
        self._lock = threading.Lock()  # the main thread asks, too
        self._beats = [""] * place.size
        self._heard = [time.monotonic()] * place.size

    def start(self) -> None:
        with self._lock:
            self._store.set(self._key(self._place.rank), "0")
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=2 * BEAT_SECONDS)

    def failed(self, sentence: str, code: int) -> bool:
        """Tell the others; returns whether this process is the one to say it."""
        self._stopped.set()
        try:
            with self._lock:
                first = self._store.add("failed", 1) == 1
                if first:
                    self._store.set("reason", json.dumps([self._place.rank, sentence, code]))
            return self._say(sentence) and (first or self._reason(wait=True) is None)
        except RuntimeError:
            return self._speaks_alone()

    def blame(self, detail: str) -> str:
        """The sentence about a connection that broke: why another process ended, or that it is silent."""
        began = time.monotonic()
        while time.monotonic() - began < _BEFORE_BLAME:
            with suppress(RuntimeError):
                reason = self._reason()
                if reason is not None:
                    return reason[0]
            time.sleep(0.2)
        with self._lock:
            silent = [rank for rank in self._others() if time.monotonic() - self._heard[rank] > 2.5 * BEAT_SECONDS]
        return _sentence(silent, self._place.size) if silent else _sentence([], self._place.size, detail)

    def _run(self) -> None:
        beat = 0
        began = time.monotonic()
        with self._lock:
            self._heard = [began] * self._place.size
        while not self._stopped.wait(BEAT_SECONDS):
            beat += 1
            try:
                with self._lock:
                    self._store.set(self._key(self._place.rank), str(beat))
                    silent = self._listen()
                    reason = self._reason_unlocked()
            except RuntimeError:  # the store's process is gone; at the orderly end the first to leave
                if self._stopped.wait(_BEFORE_BLAME):
                    return
                sentence = _sentence([0], self._place.size)
                self._end(sentence, 1, speaks=self._speaks_alone())
                return
            if self._stopped.is_set():
                return
            if reason is not None:
                # the main thread may be about to say the same in an orderly way
                if not self._stopped.wait(_BEFORE_BLAME):
                    self._end(*reason, speaks=self._say(reason[0]))
                return
            if silent:
                sentence = _sentence(silent, self._place.size)
                self._end(sentence, LostProcessError.exit_code, speaks=self._say(sentence))
                return

    def _end(self, sentence: str, code: int, *, speaks: bool) -> None:
        self._lost(sentence if speaks else "", code)

    def _listen(self) -> list[int]:
        """The processes that have been silent for too long."""
        now = time.monotonic()
        for rank in self._others():
            key = self._key(rank)
            said = self._store.get(key).decode() if self._store.check([key]) else ""
            if said != self._beats[rank] or not said:  # not said: it has not come yet
                self._beats[rank], self._heard[rank] = said, now
        return [rank for rank in self._others() if now - self._heard[rank] > SILENT_SECONDS]

    def _reason(self, *, wait: bool = False) -> tuple[str, int] | None:
        """Why another process ended; None if none has."""
        for _ in range(10 if wait else 1):
            with self._lock:
                found = self._reason_unlocked()
            if found is not None or not wait:
                return found
            time.sleep(0.1)
        return None

    def _reason_unlocked(self) -> tuple[str, int] | None:
        if not self._store.check(["reason"]):
            return None
        rank, sentence, code = json.loads(self._store.get("reason"))
        return None if rank == self._place.rank else (str(sentence), int(code))

    def _say(self, sentence: str) -> bool:
        """Whether this process is the first to say a sentence."""
        name = hashlib.sha256(sentence.encode("utf-8")).hexdigest()
        try:
            with self._lock:
                return bool(self._store.add(f"said/{name}", 1) == 1)
        except RuntimeError:
            return self._speaks_alone()

    def _speaks_alone(self) -> bool:
        """Who speaks when the processes cannot agree on it: the first one left, or the first of its machine."""
        return self._place.rank <= 1 or self._place.local_rank == 0

    def _others(self) -> list[int]:
        return [rank for rank in range(self._place.size) if rank != self._place.rank]

    @staticmethod
    def _key(rank: int) -> str:
        return f"alive/{rank}"


def _sentence(silent: list[int], size: int, detail: str = "") -> str:
    who = "Another process"
    if silent:
        names = ", ".join(str(rank) for rank in silent)
        who = f"Process {names}" if len(silent) == 1 else f"Processes {names}"
    cannot = f" ({detail})" if detail else ""
    return (
        f"{who} of the {size} that train together ended or cannot be reached{cannot}; all have stopped, "
        "and --resume goes on from the last checkpoint."
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
