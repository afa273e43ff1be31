"""The only threads: work outside the GUI's thread, whose events arrive as Qt signals in the GUI's thread.

A thread must not outlive the interpreter: if it is then within the network's C++ code, it takes the process down (exit
134). So running threads are known (`running`): a window that closes waits for its own, the interpreter for all.

superqt's ``create_worker`` (napari's ``thread_worker``) cannot do this. Its workers share Qt's global pool, which has
as many threads as the machine has cores (on one core a forecast would wait for the running segmentation); the pool can
only be waited for as a whole, and a plain function in it cannot be stopped. Widgets start their threads through
`Working`.
"""

from __future__ import annotations

import atexit
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from qtpy.QtCore import QObject, Signal

from meduniseg_core.errors import CancelledError, MedUniSegError, is_out_of_memory
from meduniseg_core.events import CancelToken

T = TypeVar("T")
Work = Callable[[Callable[[Any], None], CancelToken], T]
"""What is done in a thread, given a sink of events and a token; it raises CancelledError where the token says so."""

_PATIENCE = 120.0  # seconds at the interpreter's end: a window of the largest network on a slow CPU takes some 30


@dataclass(frozen=True, eq=False)
class Running:
    """Work that has not ended. ``title`` is the user's name for it, "" for work that nobody asked for."""

    title: str
    _token: CancelToken
    _thread: threading.Thread
    _owner: Callable[[], QObject | None]

    def cancel(self) -> None:
        """Ask it to stop."""
        self._token.cancel()

    def is_under(self, ancestor: QObject) -> bool:
        """Whether it was started in this window (or by a panel that no longer exists)."""
        return is_under(self._owner(), ancestor)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()


_RUNNING: set[Running] = set()


def running() -> list[Running]:
    """All work that has not ended."""
    return [one for one in list(_RUNNING) if not one.over]


def is_under(item: QObject | None, ancestor: QObject) -> bool:
    """Whether ``item`` is ``ancestor`` or one of its descendants; a deleted item counts as one."""
    try:
        while item is not None and item is not ancestor:
            above = item.parent()
            if above is None:
                return False
            item = above
    except RuntimeError:
        return True  # Qt has deleted it
    return True


@atexit.register
def _end() -> None:
    left = running()
    for one in left:
        one.cancel()
    deadline = time.monotonic() + _PATIENCE
    for one in left:
        one._thread.join(max(0.0, deadline - time.monotonic()))


class BackgroundJob(QObject):
    """One piece of work in a thread of its own. It emits exactly one of ``done``, ``failed`` and ``cancelled``.

    ``title`` names work that the user would miss, such as "A segmentation": closing the window then asks first.
    """

    reported = Signal(object)
    done = Signal(object)
    failed = Signal(str)
    cancelled = Signal()

    def __init__(self, work: Work[Any], parent: QObject | None = None, title: str = "") -> None:
        super().__init__(parent)
        self._work: Work[Any] | None = work
        self._token = CancelToken()
        # a daemon, so that it is waited for where it can be cancelled first
        self._thread = threading.Thread(target=self._run, name="meduniseg", daemon=True)
        owner = (lambda: None) if parent is None else ref(parent)
        self._record = Running(title, self._token, self._thread, owner)
        if parent is not None:
            # not through self, which is destroyed with its parent
            parent.destroyed.connect(partial(_cancel, self._token))

    def start(self) -> None:
        """Begin."""
        _RUNNING.add(self._record)  # first: the thread may end at once, and takes it out then
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to stop; a segmentation stops after the present window."""
        self._token.cancel()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the thread has ended; False if it has not within ``seconds``."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        work, self._work = self._work, None  # what it holds (a volume, say) goes when it is done
        assert work is not None
        try:
            result = work(self._send, self._token)
        except CancelledError:
            self._emit(self.cancelled)
        except MedUniSegError as error:
            self._emit(self.failed, str(error))
        except OSError as error:
            self._emit(self.failed, os_failure(error))
        except Exception as error:
            if is_out_of_memory(error):
                self._emit(self.failed, "There is not enough memory; choose a smaller region or close other programs.")
                return
            # a bug of ours: the sentence for the user, the traceback for the report
            traceback.print_exc()
            self._emit(self.failed, f"Something went wrong inside MedUniSeg ({type(error).__name__}: {error}).")
        else:
            self._emit(self.done, result)
        finally:
            _RUNNING.discard(self._record)

    def _send(self, event: object) -> None:
        self._emit(self.reported, event)

    @staticmethod
    def _emit(signal: Any, *arguments: object) -> None:
        try:
            signal.emit(*arguments)
        except RuntimeError:
            return  # the widget, and with it this object's Qt half, is gone: nobody is left to tell


def os_failure(error: OSError) -> str:
    """Write the sentence for a file that could not be read or written."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; choose another place, or free some space."


def _cancel(token: CancelToken, *_: object) -> None:
    token.cancel()
