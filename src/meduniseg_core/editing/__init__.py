"""Editing of label maps: operations in mm that say which voxels change to what, and leave locked classes alone."""

from meduniseg_core.editing.brush import in_range, sphere
from meduniseg_core.editing.edit import Edit, takeable
from meduniseg_core.editing.interpolate import fill_between
from meduniseg_core.editing.operations import (
    fill_holes,
    grow,
    keep_largest,
    relabel_component,
    remove_islands,
    shrink,
    smooth,
)
from meduniseg_core.editing.unique_labels import unique_labels

__all__ = [
    "Edit",
    "fill_between",
    "fill_holes",
    "grow",
    "in_range",
    "keep_largest",
    "relabel_component",
    "remove_islands",
    "shrink",
    "smooth",
    "sphere",
    "takeable",
    "unique_labels",
]
