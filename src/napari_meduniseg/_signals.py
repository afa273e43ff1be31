"""What one panel tells the others: another model, an accepted correction, another collection, another reader."""

from __future__ import annotations

from functools import cache

from qtpy.QtCore import QObject, Signal


class Signals(QObject):
    """Signals between panels.

    ``models_changed`` brings the name of a model to use from now on, or "". ``accepted`` brings the ledger's folder and
    whether the annotator has to read something about it, ``reader_changed`` the name of the reader from now on.
    ``collections_changed`` says that a folder was added to the collections.
    """

    models_changed = Signal(str)
    accepted = Signal(str, bool)
    collections_changed = Signal()
    reader_changed = Signal(str)


@cache
def signals() -> Signals:
    """The instance that all panels share."""
    return Signals()
