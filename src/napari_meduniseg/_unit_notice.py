"""napari's notice about layers of mm and of pixels in one window, in words that a user can do something with.

Scans lie in mm, photographs have no size: both say so, and a window that shows both has no unit that fits all. napari
then says "Inconsistent units across layers" for every layer that is added. Nothing is wrong with what is computed or
saved, only napari's scale bar counts pixels; that is said, once.
"""

from __future__ import annotations

from napari.utils.notifications import Notification, notification_manager

_NAPARIS = "Inconsistent units across layers"
_OURS = (
    "Images in mm and images in pixels are open together: napari's scale bar counts pixels for all of them. "
    "Segmenting, editing and saving go by each image's own size."
)


def explain_mixed_units() -> None:
    """From now on, and for all windows that there are by now: each of them listens before those that were earlier."""
    ready = notification_manager.notification_ready
    if _explain in ready.callbacks:
        ready.disconnect(_explain)
    ready.connect(_explain, position="first")


def _explain(notification: Notification) -> None:
    if not str(notification.message).startswith(_NAPARIS):
        return
    told = any(record is not notification and record.message == _OURS for record in notification_manager.records)
    notification.message = _OURS
    notification.severity = type(notification.severity).INFO
    notification.blocked = told
