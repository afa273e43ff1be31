"""``meduniseg napari``: opens the viewer with images, results of ``meduniseg segment`` and the Segment panel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.output import is_installed


def napari(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="Images, and label files that 'segment' wrote.")
    ] = None,
) -> None:
    """Open napari with these images and the Segment panel. Results of 'meduniseg segment' open as labels."""
    if not is_installed("napari"):
        raise UsageError("napari is not installed here; install it with: pip install 'napari-meduniseg[napari]'.")
    from napari_meduniseg._reader import read_one
    from napari_meduniseg._session import leave_out_the_notice_of_units, read_without_asking

    layers = [
        layer for path in images or [] for layer in read_one(path)
    ]  # a bad file is reported before a window opens
    import napari as viewer_library
    from napari.layers import Layer

    from napari_meduniseg.widgets.opening import open_panel

    viewer = viewer_library.Viewer(title="MedUniSeg")
    read_without_asking()
    leave_out_the_notice_of_units()
    for data, options, kind in layers:
        viewer.add_layer(Layer.create(data, options, kind))
    open_panel(viewer, "Segment")
    viewer.reset_view()  # the panel has taken room from the images
    viewer_library.run()
