"""The only threads: work beside the GUI, whose events arrive as Qt signals in the GUI's thread."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal

from meduniseg_core.errors import CancelledError, MedUniSegError, is_out_of_memory
from meduniseg_core.events import CancelToken, Event, EventSink

Work = Callable[[EventSink, CancelToken], Any]


class Job(QObject):
    """One piece of work in a thread of its own. Of ``done``, ``failed`` and ``cancelled`` exactly one is emitted."""

    event = Signal(object)
    done = Signal(object)
    failed = Signal(str)
    cancelled = Signal()

    def __init__(self, work: Work, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work: Work | None = work
        self._token = CancelToken()
        # a daemon: closing the viewer must not wait for a window to be finished
        self._thread = threading.Thread(target=self._run, name="meduniseg", daemon=True)
        if parent is not None:
            # not through self, which is destroyed with its parent
            parent.destroyed.connect(partial(_cancel, self._token))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to stop; it does within one window."""
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
            where = f"{error.filename}: " if error.filename else ""
            reason = error.strerror or str(error)
            self._emit(self.failed, f"{where}{reason}; choose another place, or free some space.")
        except Exception as error:
            if is_out_of_memory(error):
                self._emit(self.failed, "The memory does not suffice; choose a smaller region or close other programs.")
                return
            # a bug of ours: the sentence for the user, the traceback for the report
            traceback.print_exc()
            self._emit(self.failed, f"Something went wrong inside MedUniSeg ({type(error).__name__}: {error}).")
        else:
            self._emit(self.done, result)

    def _send(self, event: Event) -> None:
        self._emit(self.event, event)

    @staticmethod
    def _emit(signal: Any, *arguments: object) -> None:
        try:
            signal.emit(*arguments)
        except RuntimeError:
            return  # the widget, and with it this object's Qt half, is gone: nobody is left to tell


def _cancel(token: CancelToken, *_: object) -> None:
    token.cancel()
