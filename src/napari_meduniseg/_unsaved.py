"""Which labels layers hold something that was neither saved nor accepted. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Labels

from napari_meduniseg._layers import METADATA_KEY


@dataclass
class _State:
    changes: int = 0
    saved: int = 0


_STATES: WeakKeyDictionary[Labels, _State] = WeakKeyDictionary()


def watch(layer: Labels) -> None:
    """Count the changes of a layer from now on; a result of ours is unsaved as it comes."""
    if layer in _STATES:
        return
    state = _STATES[layer] = _State()
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, dict) and "provenance" in record:
        state.changes += 1

    def count(_event: Any = None) -> None:
        state.changes += 1

    for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
        event.connect(count)


def changed(layer: Labels) -> None:
    """The layer holds something new, however it came there."""
    watch(layer)
    _STATES[layer].changes += 1


def mark(layer: Labels) -> int:
    """The state of the layer at this moment, for :func:`saved`."""
    return _STATES[layer].changes if layer in _STATES else 0


def saved(layer: Labels, at: int | None = None) -> None:
    """The layer was saved or accepted, as it is now or as it was ``at`` a :func:`mark`."""
    if layer in _STATES:
        _STATES[layer].saved = mark(layer) if at is None else at


def is_unsaved(layer: Labels) -> bool:
    """Whether the layer holds something that is kept nowhere."""
    state = _STATES.get(layer)
    return state is not None and state.changes != state.saved
