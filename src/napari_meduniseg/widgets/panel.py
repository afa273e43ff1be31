"""What all panels have in common: a viewer, work in threads, and a line for messages and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import napari
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QMainWindow, QTabBar, QWidget

from meduniseg_core.errors import MedUniSegError
from napari_meduniseg._jobs import Work, os_failure
from napari_meduniseg.widgets.canvas_overlay import overlay_of
from napari_meduniseg.widgets.kept_focus import KeptFocus
from napari_meduniseg.widgets.message import Sentence
from napari_meduniseg.widgets.recovery import Recovery
from napari_meduniseg.widgets.scrolling import footer_layout, scrolling_layout
from napari_meduniseg.widgets.shortcut_sheet import bind_sheet
from napari_meduniseg.widgets.working import T, Working


class Panel(Working, QWidget):
    """A panel of the plugin.

    Its own widgets go into ``content``, which scrolls, and into ``footer``, which stays in sight. ``recovery`` is the
    content's first row; the panel places the message line ``said`` in the footer.
    """

    def __init__(self, viewer: napari.Viewer, *, with_bin: bool = False) -> None:
        super().__init__()
        self._viewer = viewer
        self.said = Sentence()
        self.recovery = Recovery(viewer, with_bin)
        self.content = scrolling_layout(self)
        self.content.addWidget(self.recovery)
        self.footer = footer_layout(self)
        KeptFocus(self)
        self._naming = QTimer(self)  # the tab of a panel that opens is made after it
        self._naming.setSingleShot(True)
        self._naming.setInterval(0)
        self._naming.timeout.connect(self._name_tabs)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        overlay_of(self, self._viewer)
        bind_sheet(self.window())
        self._naming.start()

    def _name_tabs(self) -> None:
        """Tabs show whole names, and arrows where they do not fit; Qt would shorten a dozen to a letter each."""
        for bar in self.window().findChildren(QTabBar):
            if isinstance(bar.parent(), QMainWindow):
                bar.setElideMode(Qt.TextElideMode.ElideNone)
                bar.setUsesScrollButtons(True)

    def say(self, text: str, trouble: bool = False) -> None:
        """Show a sentence; trouble is highlighted."""
        self.said.say(text, trouble)

    def say_failure(self, sentence: str) -> None:
        """Show why something failed."""
        self.say(sentence, trouble=True)

    @contextmanager
    def saying_failures(self) -> Iterator[None]:
        """What fails within ends there, and is said: faults of what was given, files that cannot be read or written."""
        try:
            yield
        except MedUniSegError as error:
            self.say_failure(str(error))
        except OSError as error:
            self.say_failure(os_failure(error))

    def do_beside(self, work: Work[T], then: Callable[[T], None], *, text: str, title: str) -> None:
        """Do work in a thread and say so; nothing while other work is being done.

        Args:
            work: is called there with a sink of events and a cancel token.
            then: is called in the window's thread with what it returned.
            text: what is said meanwhile.
            title: what the user would call it, see :class:`Job`.
        """
        if self.start_job(work, then, self.say_failure, title=title):
            self.say(text)
