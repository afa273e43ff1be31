"""The Planes widget: the two planes that the viewer does not show, through a crosshair that follows the mouse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from qtpy.QtGui import QCloseEvent, QHideEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QDockWidget, QHBoxLayout
from superqt.utils import qthrottled

from napari_meduniseg._current import current_of
from napari_meduniseg._planes import draw_plane, index_of, is_volume
from napari_meduniseg._views import slice_axis
from napari_meduniseg.widgets.canvas_overlay import overlay_of
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.plane_view import PlaneView
from napari_meduniseg.widgets.scrolling import parent_of
from napari_meduniseg.widgets.shortcut_sheet import list_keys
from napari_meduniseg.widgets.window_key import bind_in_window

FOLLOW_KEY, CROSS_KEY = "F5", "F8"
_FLAT = "This image has a single plane; open a volume."
_PAUSE_MS = 40  # the mouse moves more often than planes need to be drawn
_LOOKS = ("contrast_limits", "colormap", "gamma", "data", "paint", "labels_update", "opacity", "visible", "contour")


class PlanesWidget(Panel):
    """Shows the current volume and its visible labels in the other two standard planes."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._place: np.ndarray | None = None  # of the crosshair, in the viewer's world
        self._dock: QDockWidget | None = None
        self._in_front = True  # not behind another panel's tab, where Qt calls it visible, too
        self._moving = False  # by a press in a plane: the viewer's cursor follows the slice, and tells nothing
        self._watched: list[Layer] = []
        self.views = (PlaneView(), PlaneView())
        for view in self.views:
            view.setToolTip("Press or drag to move the crosshair and the viewer's slice; turn the wheel for the next.")
            view.picked.connect(partial(self._picked, view))
            view.stepped.connect(partial(self._stepped, view))
        self.follow = QCheckBox(f"Follow the mouse ({FOLLOW_KEY})")
        self.follow.setChecked(True)
        self.follow.setToolTip("The crosshair follows the mouse in the viewer; unticked, it stays where it was last.")
        self.cross = QCheckBox(f"Crosshair ({CROSS_KEY})")
        self.cross.setChecked(True)
        self.cross.setToolTip("Show the crosshair in the viewer and in both planes.")
        self._lay_out()
        self._draw_soon = qthrottled(self._draw, timeout=_PAUSE_MS, parent=self)
        viewer = self._current.viewer
        viewer.cursor.events.position.connect(self._moved)
        for event in (viewer.dims.events.current_step, viewer.dims.events.order, viewer.dims.events.ndisplay):
            event.connect(self._sliced)
        self._current.events.changed.connect(self._changed)
        viewer.layers.events.inserted.connect(self._changed)
        viewer.layers.events.removed.connect(self._changed)
        self.follow.toggled.connect(lambda _on: self._draw_soon())
        self.cross.toggled.connect(lambda _on: self._draw_soon())
        list_keys(
            [
                (FOLLOW_KEY, "Planes: the crosshair follows the mouse, or stays"),
                (CROSS_KEY, "Planes: show the crosshair"),
            ]
        )
        self._changed()

    @property
    def place(self) -> tuple[float, ...] | None:
        """Where the crosshair is, in the viewer's world."""
        return None if self._place is None else tuple(float(value) for value in self._place)

    # -- following the viewer -----------------------------------------------------------------------------------

    def _image(self) -> ImageLayer | None:
        image = self._current.image
        return image if is_volume(image) and image in self._current.viewer.layers else None

    def _labels(self, image: ImageLayer) -> Sequence[Labels]:
        return [layer for layer in self._current.labels_of(image) if layer.visible]

    def _changed(self, _event: Any = None) -> None:
        """Another image or other labels: follow how they look."""
        image = self._image()
        wanted: list[Layer] = [] if image is None else [image, *self._current.labels_of(image)]
        for layer in self._watched:
            self._listen(layer, False)
        self._watched = wanted
        for layer in wanted:
            self._listen(layer, True)
        self._sliced()

    def _listen(self, layer: Layer, on: bool) -> None:
        for name in _LOOKS:
            emitter = layer.events.emitters.get(name)
            if emitter is not None:
                (emitter.connect if on else emitter.disconnect)(self._looks_changed)

    def _looks_changed(self, _event: Any = None) -> None:
        self._draw_soon()

    def _moved(self, _event: Any = None) -> None:
        """The mouse moved in the viewer."""
        viewer = self._current.viewer
        if self._moving or not self.follow.isChecked() or not self._is_seen() or viewer.dims.ndisplay == 3:
            return
        position = np.asarray(viewer.cursor.position, float)
        if len(position) == viewer.dims.ndim:
            self._place = position
            self._draw_soon()

    def _sliced(self, _event: Any = None) -> None:
        """The viewer shows another slice, or another plane: the crosshair stays in what it shows."""
        dims = self._current.viewer.dims
        point = np.asarray(dims.point, float)
        if self._place is None or len(self._place) != len(point):
            self._place = point
        else:
            across = list(dims.not_displayed)
            self._place = self._place.copy()
            self._place[across] = point[across]
        self._draw_soon()

    # -- drawing ------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        image, place = self._image(), self._place
        if not self._is_seen():
            return
        seen = image is not None and place is not None
        for view in self.views:
            view.setVisible(seen)
        overlay = overlay_of(self, self._viewer)
        if overlay is not None:
            overlay.show_cross(place if seen and self.cross.isChecked() else None)
        if image is None or place is None:
            self.say("Planes need a volume; open one." if self._current.image is None else _FLAT)
            return
        self.say("")
        index = index_of(image, tuple(float(value) for value in place))
        labels = self._labels(image)
        others = [axis for axis in range(3) if axis != slice_axis(image, self._current.viewer)]
        for view, axis in zip(self.views, others, strict=True):
            plane = draw_plane(image, labels, axis, index[axis])
            cross = tuple(float(index[one]) for one in plane.axes)
            view.show_plane(plane, (cross[0], cross[1]) if self.cross.isChecked() else None)

    # -- moving it ----------------------------------------------------------------------------------------------

    def _picked(self, view: PlaneView, row: float, column: float) -> None:
        if view.plane is not None:
            self._move_to(dict(zip(view.plane.axes, (row, column), strict=True)))

    def _stepped(self, view: PlaneView, steps: int) -> None:
        if view.plane is not None:
            self._move_to({view.plane.axis: float(view.plane.index + steps)})

    def _move_to(self, voxel: dict[int, float]) -> None:
        """Move the crosshair along some of the volume's axes; the viewer shows the slice through it."""
        image, place = self._image(), self._place
        if image is None or place is None:
            return
        own = np.asarray(image.world_to_data(tuple(place)), float)[-3:]
        for axis, value in voxel.items():
            own[axis] = min(max(value, 0.0), image.data.shape[axis] - 1.0)
        world = np.asarray(image.data_to_world(tuple(own)), float)
        self._place = np.concatenate([place[: len(place) - 3], world[-3:]])
        viewer = self._current.viewer
        point = np.asarray(viewer.dims.point, float)
        across = list(viewer.dims.not_displayed)
        point[across] = self._place[across]
        self._moving = True
        viewer.dims.point = tuple(point)
        self._moving = False
        self._draw_soon()

    def toggle_follow(self) -> None:
        """The key of *Follow the mouse*."""
        self.follow.toggle()

    def toggle_cross(self) -> None:
        """The key of *Crosshair*."""
        self.cross.toggle()

    # -- the rest -----------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        bind_in_window(self.window(), FOLLOW_KEY, self.toggle_follow)
        bind_in_window(self.window(), CROSS_KEY, self.toggle_cross)
        dock = parent_of(self, QDockWidget)
        if isinstance(dock, QDockWidget) and dock is not self._dock:
            self._dock = dock
            dock.visibilityChanged.connect(self._shown)
        self._draw_soon()

    def _shown(self, on: bool) -> None:
        """The panel's tab came to the front, or another one's did."""
        self._in_front = on
        if on:
            self._draw_soon()
        else:
            self._no_cross()

    def _is_seen(self) -> bool:
        return self._in_front and self.isVisible()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        super().hideEvent(event)
        self._no_cross()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        self._no_cross()
        super().closeEvent(event)

    def _no_cross(self) -> None:
        overlay = overlay_of(self, self._viewer)
        if overlay is not None:
            overlay.show_cross(None)

    def _lay_out(self) -> None:
        for view in self.views:
            self.content.addWidget(view, 1)
        boxes = QHBoxLayout()
        boxes.addWidget(self.follow)
        boxes.addWidget(self.cross)
        self.footer.addWidget(self.said)
        self.footer.addLayout(boxes)
