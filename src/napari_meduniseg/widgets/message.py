"""Labels that never widen or move their panel: sentences that wrap anywhere, and names that are shortened."""

from __future__ import annotations

import re

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor, QPalette, QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

AMBER = "#d98c00"
_DARKER = 160  # percent, on napari's light theme
_RESTYLED = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)
_BREAK = "\u200b"  # a place where a line may end that cannot be seen: file names and paths have no blanks


def readable(colour: str, widget: QWidget) -> str:
    """A colour in which texts of a widget can be read: as it is on a dark theme, darker on a light one."""
    dark = widget.palette().color(QPalette.ColorRole.Window).lightness() < 128
    return colour if dark else QColor(colour).darker(_DARKER).name()


def keep_room(widget: QWidget) -> None:
    """Keep a widget's space while it is hidden, so that no other widget moves."""
    policy = QSizePolicy(widget.sizePolicy())
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)


class Sentence(QLabel):
    """One sentence to the user. Room for ``lines`` lines is kept, so that a usual sentence changes no size."""

    def __init__(self, lines: int = 2) -> None:
        super().__init__()
        self._plain, self._trouble = "", False
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setMinimumHeight(lines * self.fontMetrics().lineSpacing() + 4)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def text(self) -> str:
        """The sentence."""
        return self._plain

    def setText(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show a sentence."""
        self._plain = text
        super().setText(re.sub(r"(?<=[/\\_\-.:])(?=\w)", _BREAK, text))

    def say(self, text: str, trouble: bool = False) -> None:
        """Show a sentence; trouble stands out."""
        self.setText(text)
        self._trouble = trouble
        self._colour()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        super().changeEvent(event)
        if event.type() in _RESTYLED and self._trouble:
            self._colour()  # napari has another theme now

    def _colour(self) -> None:
        wanted = f"color: {readable(AMBER, self)};" if self._trouble else ""
        if wanted != self.styleSheet():
            self.setStyleSheet(wanted)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(0, self.minimumHeight())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(0, max(self.minimumHeight(), self.heightForWidth(self.width())))


class Name(QLabel):
    """One line that is shortened in the middle where it does not fit; its tooltip shows the whole text."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def text(self) -> str:
        """The whole name."""
        return self._plain

    def setText(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show a name."""
        self._plain = text
        self.setToolTip(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(0, super().minimumSizeHint().height())

    def _fit(self) -> None:
        super().setText(self._plain)
        metrics = self.fontMetrics()
        around = super().sizeHint().width() - metrics.horizontalAdvance(self._plain)  # the style's padding
        shown = metrics.elidedText(self._plain, Qt.TextElideMode.ElideMiddle, self.width() - around)
        super().setText(shown)
