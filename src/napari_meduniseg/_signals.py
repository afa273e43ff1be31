"""What one panel tells the others: a model was installed or adopted, a correction was accepted."""

from __future__ import annotations

from functools import cache

from qtpy.QtCore import QObject, Signal


class Signals(QObject):
    """Signals between panels.

    ``models_changed`` brings the name of a model to use from now on, or "". ``accepted`` brings the ledger's folder.
    """

    models_changed = Signal(str)
    accepted = Signal(str)


@cache
def signals() -> Signals:
    """The instance that all panels share."""
    return Signals()
