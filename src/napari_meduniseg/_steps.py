"""The steps of a labels layer by name, so that undo is a list. napari keeps the steps themselves. Knows no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Labels

from napari_meduniseg._editing import class_names_of

_LIMIT = 100  # steps that napari keeps
_TOOLS = {"paint": "Brush", "erase": "Eraser", "fill": "Fill", "polygon": "Polygon"}


@dataclass
class StepHistory:
    """What can be undone, the newest last, and what can be redone, the next one last."""

    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    expected: str | None = None  # the name of the step that is about to be made


_STEPS: WeakKeyDictionary[Labels, StepHistory] = WeakKeyDictionary()


def steps_of(layer: Labels) -> StepHistory:
    """The steps of a layer since it is watched (`_unsaved.watch`)."""
    return _STEPS.setdefault(layer, StepHistory())


def expect(layer: Labels, name: str) -> None:
    """Name the change that is made next; without a name it is called after napari's tool."""
    steps_of(layer).expected = name


def made(layer: Labels, change: Iterable[Any]) -> None:
    """Note a step of napari's history: ``change`` is the value of its event ``paint``."""
    atoms = list(change)
    if not atoms:
        return  # an undo or redo, told by `moved`
    steps = steps_of(layer)
    name, steps.expected = steps.expected, None
    steps.done = [*steps.done, name or _named(layer, atoms[-1])][-_LIMIT:]
    steps.undone = []


def moved(layer: Labels, way: Literal["undo", "redo"]) -> None:
    """Note that a step was undone or redone."""
    steps = steps_of(layer)
    here, there = (steps.done, steps.undone) if way == "undo" else (steps.undone, steps.done)
    if here:
        there.append(here.pop())


def follow(layer: Labels) -> None:
    """Begin the list anew whenever napari's steps are void: the layer has another array, or was not editable.

    napari (0.9) keeps its steps for another array; undone, they would write voxels of the one before.
    """
    known, held = ref(layer), [layer.data]

    def replaced(_event: Any = None) -> None:
        there = known()
        if there is None or there.data is held[0]:
            return
        held[0] = there.data
        mode = there.mode
        if there.editable:
            there.editable = False  # napari drops its steps then
            there.editable = True
            there.mode = mode

    def locked(_event: Any = None) -> None:
        there = known()
        if there is not None and not there.editable:
            _STEPS[there] = StepHistory()

    layer.events.data.connect(replaced)
    layer.events.editable.connect(locked)


def go_to_step(layer: Labels, number: int) -> None:
    """Undo or redo until exactly ``number`` of the steps stand: 0 is before the first of them."""
    steps = steps_of(layer)
    while len(steps.done) > number:
        layer.undo()
    while len(steps.done) < number and steps.undone:
        layer.redo()


def _named(layer: Labels, atom: Any) -> str:
    """Name a step after the tool and the class that it painted."""
    value = getattr(atom, "new_value", None)
    if value is None:
        value = atom[-1]
    values = np.unique(np.asarray(value))
    tool = _TOOLS.get(str(layer.mode), "Change")
    if values.size != 1 or not values[0]:
        return tool
    label = int(values[0])
    return f"{tool}: {class_names_of(layer).get(label, f'class {label}')}"
