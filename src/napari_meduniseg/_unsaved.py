"""Which labels layers hold edits that were neither saved nor accepted. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary, ref

from napari.layers import Labels
from napari.utils.events import EmitterGroup

from napari_meduniseg._layers import METADATA_KEY
from napari_meduniseg._steps import follow, made, moved

events = EmitterGroup(changed=None)
"""``changed`` tells that some layer became unsaved, or saved."""


@dataclass
class _State:
    changes: int = 0
    saved: int = 0


_STATES: WeakKeyDictionary[Labels, _State] = WeakKeyDictionary()


def watch(layer: Labels) -> None:
    """Count the changes of a layer from now on. A new result of ours counts as unsaved."""
    if layer in _STATES:
        return
    state = _STATES[layer] = _State()
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, dict) and "provenance" in record:
        state.changes += 1

    def count(_event: Any = None) -> None:
        before = state.changes != state.saved
        state.changes += 1
        _tell(state, before)

    known = ref(layer)

    def step(event: Any) -> None:
        there = known()
        if there is not None:
            made(there, event.value)

    follow(layer)
    layer.events.paint.connect(step)
    for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
        event.connect(count)
    ways: tuple[Literal["undo", "redo"], ...] = ("undo", "redo")
    for name in ways:
        setattr(layer, name, _telling(layer, getattr(layer, name), name))


def _telling(layer: Labels, step: Callable[[], None], way: Literal["undo", "redo"]) -> Callable[[], None]:
    """A step back or forth that is told as painting is: napari (0.9) changes the labels then without any event."""
    known = ref(layer)
    plain: Callable[[Labels], None] = getattr(step, "__func__")  # noqa: B009 - a bound method: no cycle with the layer

    def told() -> None:
        there = known()
        if there is not None:
            plain(there)
            moved(there, way)
            there.events.paint(value=[])

    return told


def _tell(state: _State, before: bool) -> None:
    if before != (state.changes != state.saved):
        events.changed()


def changed(layer: Labels) -> None:
    """Note that the layer's content has changed, in whatever way."""
    watch(layer)
    state = _STATES[layer]
    before = state.changes != state.saved
    state.changes += 1
    _tell(state, before)


def mark(layer: Labels) -> int:
    """Mark the present state of the layer, for `saved`."""
    return _STATES[layer].changes if layer in _STATES else 0


def saved(layer: Labels, at: int | None = None) -> None:
    """Note that the layer was saved or accepted, as it is now or as it was ``at`` a `mark`."""
    state = _STATES.get(layer)
    if state is not None:
        before = state.changes != state.saved
        state.saved = state.changes if at is None else at
        _tell(state, before)


def is_unsaved(layer: Labels) -> bool:
    """Whether the layer holds something that is not stored anywhere."""
    state = _STATES.get(layer)
    return state is not None and state.changes != state.saved
