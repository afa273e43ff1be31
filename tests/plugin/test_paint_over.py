"""What painting takes: the background, visible classes, everything; by our tools and by napari's own."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_meduniseg._editing import Locks, apply, locks_fault, operation, relabel_at, sphere_at
from napari_meduniseg._layers import class_options

NAMES = {1: "liver", 2: "kidney", 3: "vein"}


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def labels(viewer: ViewerModel) -> Labels:
    """Liver in the middle, kidney on its left, vein on its right; the vein is hidden."""
    data = np.zeros((3, 20, 24), np.uint8)
    data[:, 5:15, 8:16], data[:, 5:15, 2:8], data[:, 5:15, 16:22] = 1, 2, 3
    layer = viewer.add_labels(data, units="mm", **class_options(NAMES, {}))
    table = {label: np.asarray(layer.get_color(label), dtype=float) for label in NAMES}
    table[3][3] = 0.0
    layer.colormap = type(layer.colormap)(color_dict={**table, 0: np.zeros(4), None: np.ones(4)})
    layer.selected_label, layer.brush_size = 1, 12
    return layer


def losers(before: np.ndarray, after: np.ndarray) -> set[int]:
    """The classes that lost voxels."""
    return {int(label) for label in np.unique(before[before != after])} - {0}


@pytest.mark.parametrize(
    ("choice", "lose"), [("background", set()), ("visible", {2}), ("everything", {2, 3})], ids=lambda v: str(v)
)
def test_every_tool_takes_what_was_chosen_and_no_more(
    viewer: ViewerModel, labels: Labels, choice: str, lose: set[int]
) -> None:
    said: list[str] = []
    locks = Locks(blocked=said.append, paint_over=choice)  # type: ignore[arg-type]
    locks.guard(labels)
    before = labels.data.copy()
    apply(labels, operation("grow", labels, locks.rule(labels, 1), viewer, 4.0)())
    assert losers(before, labels.data) == lose and (labels.data == 1).sum() > (before == 1).sum()
    labels.undo()
    apply(labels, sphere_at(labels, (1, 10, 12), 9.0, 1, locks.rule(labels, 1)))
    assert losers(before, labels.data) == lose
    labels.undo()
    for column in (8, 15):
        labels.paint((1, 10, column), 1)
    assert losers(before, labels.data) == lose and bool(said) == (choice != "everything")
    labels.undo()
    labels.undo()
    labels.paint_polygon([(1, 1, 1), (1, 1, 22), (1, 18, 22), (1, 18, 1)], 1)
    assert losers(before, labels.data) == lose and (labels.data[1, 3] == 1).any()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


@pytest.mark.parametrize(
    ("choice", "lose"), [("background", {1}), ("visible", {1, 2}), ("everything", {1, 2, 3})], ids=lambda v: str(v)
)
def test_erasing_takes_the_chosen_class_and_what_is_painted_over(labels: Labels, choice: str, lose: set[int]) -> None:
    locks = Locks(paint_over=choice)  # type: ignore[arg-type]
    locks.guard(labels)
    before = labels.data.copy()
    for column in (8, 15):
        labels.paint((1, 10, column), 0)
    assert losers(before, labels.data) == lose
    labels.undo()
    labels.undo()
    apply(labels, sphere_at(labels, (1, 10, 12), 9.0, 0, locks.rule(labels, 0)))
    assert losers(before, labels.data) == lose


def test_a_lock_is_stronger_and_the_reason_is_said(labels: Labels) -> None:
    said: list[str] = []
    locks = Locks(blocked=said.append, paint_over="everything")
    locks.guard(labels)
    locks.set(labels, 2, True)
    before = labels.data.copy()
    labels.paint((1, 10, 8), 1)
    assert losers(before, labels.data) == set() and "locked class" in said[-1]
    locks.set(labels, 2, False)
    locks.paint_over = "background"
    labels.paint((1, 10, 8), 1)
    assert "background only" in said[-1]


def test_only_the_selected_label_is_seen_where_napari_shows_no_other(labels: Labels) -> None:
    locks = Locks(paint_over="visible")
    labels.show_selected_label = True
    before = labels.data.copy()
    apply(labels, sphere_at(labels, (1, 10, 12), 9.0, 1, locks.rule(labels, 1)))
    assert losers(before, labels.data) == set() and (labels.data == 1).sum() > (before == 1).sum()


def test_who_points_at_a_component_means_its_class(labels: Labels) -> None:
    locks = Locks()
    before = labels.data.copy()
    apply(labels, relabel_at(labels, (1, 10, 4), 1, locks.rule(labels, 1))())
    assert losers(before, labels.data) == {2}


@pytest.mark.parametrize("choice", ["background", "visible", "everything"])
def test_what_programs_write_is_theirs_to_decide(labels: Labels, choice: str) -> None:
    said: list[str] = []
    locks = Locks(blocked=said.append, paint_over=choice)  # type: ignore[arg-type]
    locks.guard(labels)
    locks.set(labels, 2, True)
    before = labels.data.copy()
    everywhere = np.nonzero(np.ones_like(before))
    labels.paint((1, 10, 12), 1)  # once a tool has been used it is at work no more
    said.clear()
    labels.data_setitem(everywhere, 1)
    assert (labels.data == 1).all() and not said
    labels.undo()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_whether_napari_s_own_tools_keep_locks_is_tried_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    locks_fault.cache_clear()
    assert locks_fault() is None

    def at_fault() -> bool:
        locks_fault.cache_clear()
        return "does not let us keep locks" in (locks_fault() or "")

    step = "_apply_mask_to_data" if hasattr(Labels, "_apply_mask_to_data") else "data_setitem"  # before napari 0.8
    write = getattr(Labels, step)
    with monkeypatch.context() as renamed:  # napari's tools write through a step of another name
        renamed.setattr(Labels, step, None)
        assert at_fault()
    with monkeypatch.context() as other:  # the step is there, and takes other arguments
        other.setattr(Labels, step, lambda self, mask, label: write(self, self.data, mask, label))
        assert at_fault()
    with monkeypatch.context() as around:  # the step is there, and the tools go round it

        def paint(self: Labels, _coord: object, label: int, **_: object) -> None:
            self.data[:] = label

        around.setattr(Labels, "paint", paint)
        assert at_fault()
    locks_fault.cache_clear()
    assert locks_fault() is None


def test_a_napari_that_goes_round_the_locks_is_told_of_when_the_panel_opens(
    gui: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gui.add_labels(np.ones((8, 8), np.uint8))
    with monkeypatch.context() as gone:
        gone.delattr(Labels, "_apply_mask_to_data", raising=False)
        gone.setattr(Labels, "paint", lambda self, _coord, label, **_: self.data.fill(label))
        locks_fault.cache_clear()
        _, edit = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    locks_fault.cache_clear()
    assert edit.said.text() == (
        f"napari {napari.__version__} does not let us keep locks from its own brush, fill and polygon: they paint over "
        "locked classes. The operations of this panel keep them; napari 0.9.2 is known to work."
    )
