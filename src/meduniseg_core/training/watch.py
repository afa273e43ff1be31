"""Watches whether the processes of a training are alive, and ends this one when another is gone.

A process that is gone must soon end all others, with one sentence. NCCL would wait for it forever: so every process
writes a heartbeat to the launcher's key-value store once a second, and when one falls silent the others end themselves.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from torch.distributed.distributed_c10d import Store

from meduniseg_core.errors import LostProcessError
from meduniseg_core.training.place import Place

BEAT_SECONDS = 1.0
SILENT_SECONDS = 20.0
"""A process without a heartbeat for so long is gone. A busy machine may delay one for seconds."""

BEFORE_BLAME = 4.0
"""Seconds that a process may take to report why it ends."""

_LONGEST_SAVE = 600.0  # seconds that the end waits for a file that is being written

Lost = Callable[[str, int], None]


class Watch:
    """Writes this process's heartbeat, and calls ``lost`` when another process is gone, failed or cannot be reached.

    Args:
        store: the launcher's key-value store, on a connection of its own.
        place: this process's place.
        lost: called from another thread with a sentence ("" where another process prints it) and an exit code; it must
            end this process.
    """

    def __init__(self, store: Store, place: Place, lost: Lost) -> None:
        self._store, self._place, self._lost = store, place, lost
        self._stopped, self._closed = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=run, name="other processes", daemon=True) for run in (self._run, self._guard)
        ]
        self._lock = threading.Lock()  # the main thread uses the store, too
        self._saving = threading.Lock()
        self._rounds = 0
        self._beats = [""] * place.size
        self._heard = [time.monotonic()] * place.size

    def start(self) -> None:
        """Write the first heartbeat and begin to watch."""
        with self._lock:
            self._store.set(self._key(self._place.rank), "0")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching: this process is about to end."""
        self._stopped.set()
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=2 * BEAT_SECONDS)

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Let this process not be ended within the block.

        Yields:
            Nothing.
        """
        with self._saving:
            yield

    def failed(self, sentence: str, code: int) -> bool:
        """Report to the others why this process ends.

        Args:
            sentence: the error message for the user.
            code: the exit code.

        Returns:
            Whether this process is the one to print the sentence.
        """
        self._stopped.set()
        try:
            with self._lock:
                first = self._store.add("failed", 1) == 1
                if first:
                    self._store.set("reason", json.dumps([self._place.rank, sentence, code]))
            return self._speaks_first(sentence) and (first or self._reason(wait=True) is None)
        except RuntimeError:
            return self._speaks_alone()

    def blame(self, detail: str) -> str:
        """Explain a connection that broke.

        Args:
            detail: the library's message.

        Returns:
            Why another process ended, as it reported, or which one is silent.
        """
        began = time.monotonic()
        while time.monotonic() - began < BEFORE_BLAME:
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
            except RuntimeError:  # the store's process is gone; at the orderly end it is the first to leave
                if self._stopped.wait(BEFORE_BLAME):
                    return
                self._end(_sentence([0], self._place.size), LostProcessError.exit_code, speaks=self._speaks_alone())
                return
            self._rounds += 1
            if self._stopped.is_set():
                return
            if reason is not None:
                # the main thread may be about to report the same in an orderly way
                if not self._stopped.wait(BEFORE_BLAME):
                    self._end(*reason, speaks=self._speaks_first(reason[0]))
                return
            if silent:
                sentence = _sentence(silent, self._place.size)
                self._end(sentence, LostProcessError.exit_code, speaks=self._speaks_first(sentence))
                return

    def _guard(self) -> None:
        """End this process where the store does not answer: its machine is gone or frozen, and a call waits forever.

        Seconds are counted in turns of this thread, so a process that was itself suspended blames nobody.
        """
        seen, turns = -1, 0
        while not self._closed.wait(BEAT_SECONDS):
            turns = turns + 1 if self._rounds == seen else 0
            seen = self._rounds
            if turns * BEAT_SECONDS > SILENT_SECONDS:
                self._end(_sentence([0], self._place.size), LostProcessError.exit_code, speaks=self._speaks_alone())
                return

    def _end(self, sentence: str, code: int, *, speaks: bool) -> None:
        self._saving.acquire(timeout=_LONGEST_SAVE)  # for good: nothing more is written
        self._lost(sentence if speaks else "", code)

    def _listen(self) -> list[int]:
        """The processes that have been silent for too long."""
        now = time.monotonic()
        for rank in self._others():
            key = self._key(rank)
            beat = self._store.get(key).decode() if self._store.check([key]) else ""
            if beat != self._beats[rank] or not beat:  # no beat: it has not started yet
                self._beats[rank], self._heard[rank] = beat, now
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

    def _speaks_first(self, sentence: str) -> bool:
        """Whether this process is the first to print a sentence."""
        name = hashlib.sha256(sentence.encode("utf-8")).hexdigest()
        try:
            with self._lock:
                return bool(self._store.add(f"said/{name}", 1) == 1)
        except RuntimeError:
            return self._speaks_alone()

    def _speaks_alone(self) -> bool:
        """Who prints when the processes cannot agree on it: the first one left, or the first of its machine."""
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
