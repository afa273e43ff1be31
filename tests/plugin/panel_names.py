"""The names of all panels, as the manifest and the program's menu have them."""

from __future__ import annotations

PANELS = (
    "Segment",
    "Edit",
    "Teach",
    "Measure",
    "Planes",
    "Review",
    "Models",
    "Batch",
    "Learn",
    "Cases",
    "Readers",
    "Archive",
)
