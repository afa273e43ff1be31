"""What ``meduniseg napari`` sets in napari: who reads medical files, and which notice is left out. Knows no Qt."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from napari.settings import get_settings
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManifest

_PLUGIN = "napari-meduniseg"
_UNITS = "Inconsistent units across layers"


def read_without_asking() -> None:
    """Make this plugin napari's reader of the files that it names by their ending, where the user has chosen none.

    napari would ask at every file, as its own reader claims most endings, too, and loses geometry and the names of
    classes. The choice is listed under *Preferences > Plugins*.
    """
    settings = get_settings().plugins
    chosen = dict(settings.extension2reader)
    readers = PluginManifest.from_file(Path(__file__).with_name("napari.yaml")).contributions.readers or ()
    endings = {pattern for reader in readers for pattern in reader.filename_patterns if _is_an_ending(pattern)}
    new = {ending for ending in endings if not any(fnmatch(f"image{ending[1:]}", known) for known in chosen)}
    if new:
        settings.extension2reader = {**chosen, **dict.fromkeys(sorted(new), _PLUGIN)}


def _is_an_ending(pattern: str) -> bool:
    return pattern.startswith("*.") and "[" not in pattern


def leave_out_the_notice_of_units() -> None:
    """Keep napari from saying, with each layer that is added, that photographs and scans have no unit in common.

    Nothing but its scale bar depends on it, and two of its notices at once cover each other and stay. Who listens to
    napari's notifications hears them after its window has; so they are stopped before they are sent.
    """
    send = notification_manager.dispatch

    def dispatch(notification: Notification) -> None:
        if not notification.message.startswith(_UNITS):
            send(notification)

    setattr(notification_manager, "dispatch", dispatch)  # noqa: B010 - mypy minds an assigned method
