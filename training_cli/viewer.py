"""``meduniseg napari``: the viewer, with images and results of ``meduniseg segment`` as layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import UsageError
from training_cli.output import is_installed

if TYPE_CHECKING:
    import numpy as np

    from meduniseg_core.images import Image


def napari(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="Images, and label files that 'segment' wrote.")
    ] = None,
) -> None:
    """Open napari with these images; results of 'meduniseg segment' open as labels."""
    if not is_installed("napari"):
        raise UsageError("napari is not installed here; install it with: pip install 'napari-meduniseg[napari]'.")
    layers = [layer_of(path) for path in images or []]  # a bad file is named before a window opens
    import napari as viewer_library

    viewer = viewer_library.Viewer(title="MedUniSeg")
    for kind, array, options in layers:
        (viewer.add_labels if kind == "labels" else viewer.add_image)(array, **options)
    if not is_installed("napari_meduniseg"):
        typer.echo("The MedUniSeg panel is not part of this installation; napari only shows the images.", err=True)
    viewer_library.run()


def layer_of(path: Path) -> tuple[str, np.ndarray, dict[str, Any]]:
    """``(kind, array, napari options)`` of a file: labels where a provenance JSON of ``segment`` lies beside it."""
    from meduniseg_core.images import read_image, read_labels
    from training_cli.targets import provenance_path, recorded_task

    if path.is_file() and recorded_task(provenance_path(path)) is not None:
        labels = read_labels(path)
        return "labels", _squeezed(labels)[0], {"name": path.name, "affine": _affine(labels)}
    image = read_image(path)
    array = _squeezed(image)
    options = {"name": image.source.name if image.source else path.name, "affine": _affine(image)}
    if image.meta.get("colour") == "rgb":
        import numpy as np

        return "image", np.moveaxis(array, 0, -1), {**options, "rgb": True}
    if image.channels == 1:
        return "image", array[0], options
    return "image", array, {**options, "channel_axis": 0}


def _squeezed(image: Image) -> np.ndarray:
    """(C, D, H, W), or (C, H, W) for an image of depth 1."""
    return image.array[:, 0] if image.is_2d else image.array


def _affine(image: Image) -> np.ndarray:
    """napari's world is ordered like the array's axes: the rows of index-to-LPS turned round to (z, y, x)."""
    import numpy as np

    affine = np.eye(4)
    affine[:3] = image.geometry.affine[[2, 1, 0]]
    if not image.is_2d:
        return affine
    keep = [1, 2, 3]
    return affine[np.ix_(keep, keep)]
