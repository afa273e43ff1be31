"""Check boxes in lists and tables that are visible in every theme."""

from __future__ import annotations

from qtpy.QtWidgets import QAbstractItemView

# napari's dark theme draws an empty box of a list dark on dark; a ticked one is left to the theme
_OUTLINE = """QAbstractItemView::indicator:unchecked {
    width: 12px; height: 12px; border: 1px solid #8a8d93; border-radius: 2px; background: transparent;
}"""


def outline_boxes(view: QAbstractItemView) -> None:
    """Give the empty boxes of a list or table an outline."""
    view.setStyleSheet(_OUTLINE)
