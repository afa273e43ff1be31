"""The names and colours of a labels layer as a list that other programs read, and such a list applied. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from napari.layers import Labels

from meduniseg_core.editing import unique_labels
from meduniseg_core.images.label_tables import LabelTable, read_label_table, write_label_table
from napari_meduniseg import _unsaved
from napari_meduniseg._editing import class_names_of
from napari_meduniseg._layers import class_options, classes_shown


def prepared_list(layer: Labels, path: Path) -> Callable[[], LabelTable]:
    """Prepare to read a list for a layer, in a worker's thread.

    The list replaces the layer's names and colours. Labels that are painted and that it does not list keep theirs; a
    name that the list gives to another label is not kept.
    """
    data, names = layer.data, class_names_of(layer)
    attributes = {"features": layer.features, "colormap": layer.colormap}

    def read() -> LabelTable:
        table = read_label_table(path)
        painted = [label for label in unique_labels(np.asarray(data)) if label > 0 and label not in table.names]
        _, colours = classes_shown(np.asarray(painted, dtype=np.int64), attributes)
        taken = set(table.names.values())
        kept = {label: names[label] for label in painted if label in names and names[label] not in taken}
        own = {label: colours[label] for label in painted if label in colours}
        return LabelTable({**table.names, **kept}, {**own, **table.colours})

    return read


def apply_list(layer: Labels, table: LabelTable) -> None:
    """Name and colour the classes of a layer as a list says."""
    options = class_options(dict(sorted(table.names.items())), table.colours)
    layer.features = options["features"]
    layer.colormap = options["colormap"]
    _unsaved.changed(layer)


def prepared_writing(layer: Labels, path: Path) -> Callable[[], int]:
    """Prepare to write the list of a layer, in a worker's thread; returns how many classes it lists.

    Labels that are painted and have no name are listed as the palette calls them.
    """
    data = layer.data
    attributes = {"features": layer.features, "colormap": layer.colormap}

    def write() -> int:
        names, colours = classes_shown(np.asarray(data), attributes)
        named = {label: names.get(label, f"class {label}") for label in sorted({*names, *colours})}
        write_label_table(path, LabelTable(named, colours))
        return len(named)

    return write
