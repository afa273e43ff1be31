"""What one panel tells the others: models were installed or adopted, a correction was accepted."""

from __future__ import annotations

from functools import cache

from qtpy.QtCore import QObject, Signal


class Signals(QObject):
    """``models_changed`` brings the name of a model that is to be used from now on, or "". ``accepted`` brings the
    ledger's folder."""

    models_changed = Signal(str)
    accepted = Signal(str)


@cache
def signals() -> Signals:
    """The one that all panels share."""
    return Signals()
