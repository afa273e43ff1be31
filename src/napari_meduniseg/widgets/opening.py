"""Opening a panel from code in a way that napari's menu knows: one panel of a kind per window."""

from __future__ import annotations

import napari
from npe2 import PluginManager
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_meduniseg.widgets.scrolling import parent_of

_PLUGIN = "napari-meduniseg"


def open_panel(viewer: napari.Viewer, name: str) -> QWidget:
    """Bring the panel ``name`` (its name in the menu, such as *Edit*) to the front, opening it where needed.

    ``Window.add_plugin_dock_widget`` gives docks another name than *Plugins > MedUniSeg* does, so that the menu would
    open the panel a second time.
    """
    manifest = PluginManager.instance().get_manifest(_PLUGIN)
    docked = viewer.window.dock_widgets
    for title in (f"{name} ({manifest.display_name})", f"{name} ({_PLUGIN})"):
        if title in docked:
            panel: QWidget = docked[title]
            break
    else:
        found = next(one for one in manifest.contributions.widgets or () if one.display_name == name)
        made = found.get_callable()(viewer)
        assert isinstance(made, QWidget)
        panel = made
        viewer.window.add_dock_widget(panel, name=f"{name} ({manifest.display_name})", tabify=True)
    dock = parent_of(panel, QDockWidget)
    if dock is not None:
        dock.show()
        dock.raise_()
    return panel
