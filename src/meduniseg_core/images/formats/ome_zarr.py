"""Label maps as OME-Zarr 0.5 (a folder): an image-label with names and colours, and a pyramid for viewers.

Specification: https://ngff.openmicroscopy.org/0.5. It knows a scale and a translation along the array's own axes and
no direction. For an axial volume the translation is the origin in LPS; for any other grid it is the origin in axes that
are turned with the grid, so that what has the same directions lies on each other. The whole affine is in the group's
attributes, under "meduniseg".
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.files import place, sync_folder, writing_into
from meduniseg_core.images.image import Image
from meduniseg_core.images.palette import Colour, class_colour

OME_ZARR_ENDING = ".ome.zarr"
OME_ZARR_NAMES = ("ome-zarr", "ome.zarr")
"""What ``--format`` takes for it."""

_CHUNK = (64, 256, 256)
_LARGEST = 256  # voxels along an axis of the last level of the pyramid
_SMALLEST = 64  # an axis of fewer is not halved


def check_ome_zarr() -> None:
    """Check that OME-Zarr can be written here.

    Raises:
        UsageError: the library for it is missing.
    """
    if find_spec("zarr") is None:
        raise UsageError(
            "OME-Zarr is written by the library zarr, which is not installed; "
            "run: pip install 'napari-meduniseg[ome-zarr]'."
        )


def write_ome_zarr(path: Path, labels: Image, names: Mapping[int, str], colours: Mapping[int, Colour]) -> None:
    """Write a label map as a folder, which appears when it is whole.

    Args:
        path: the folder; one that is there is replaced.
        labels: ``(1, D, H, W)``, whole numbers. One slice without a physical size becomes ``(H, W)``.
        names: the classes' names by id; those without a voxel are listed, too.
        colours: RGB, 0 to 255, by id; the palette's where there is none.

    Raises:
        UsageError: the library for it is missing.
        UnwritableError: the folder cannot be written to.
    """
    check_ome_zarr()
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".zarr-", dir=path.parent))
        try:
            made = hidden / path.name
            _write(made, labels, names, colours)
            _sync_tree(made)
            place(made, path, replace=True)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _write(folder: Path, labels: Image, names: Mapping[int, str], colours: Mapping[int, Colour]) -> None:
    import zarr

    geometry = labels.geometry
    flat = labels.is_2d and not labels.physical
    first = int(flat)  # the axis that is left out
    level = labels.array[0, 0] if flat else labels.array[0]
    axes: list[dict[str, str]] = [{"name": name, "type": "space"} for name in "zyx"[first:]]
    if labels.physical:
        axes = [{**axis, "unit": "millimeter"} for axis in axes]
    scale = [float(step) for step in geometry.spacing[first:]]
    turned = np.asarray(geometry.direction).T @ np.asarray(geometry.origin)
    shift = [float(place) for place in turned[first:]]
    found = np.flatnonzero(np.bincount(level.ravel(), minlength=1))
    pyramid = _pyramid(level)
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                # the voxel that stands for a block of the level before is its first one: the origin stays
                {"type": "scale", "scale": [step * by for step, by in zip(scale, factors, strict=True)]},
                {"type": "translation", "translation": shift},
            ],
        }
        for number, (_, factors) in enumerate(pyramid)
    ]
    attributes = {
        "ome": {
            "version": "0.5",
            "multiscales": [{"name": folder.name.removesuffix(OME_ZARR_ENDING), "axes": axes, "datasets": datasets}],
            "image-label": _image_label({*names, *map(int, found)} - {0}, names, colours),
        },
        "meduniseg": {"index_to_lps_mm": geometry.affine.tolist(), "index_axes": ["z", "y", "x"]},
    }
    group = zarr.create_group(store=str(folder), zarr_format=3, attributes=attributes)
    for number, (array, _) in enumerate(pyramid):
        chunks = tuple(min(size, most) for size, most in zip(array.shape, _CHUNK[first:], strict=True))
        group.create_array(
            str(number),
            data=np.ascontiguousarray(array),
            chunks=chunks,
            dimension_names=[axis["name"] for axis in axes],
        )


def _image_label(ids: set[int], names: Mapping[int, str], colours: Mapping[int, Colour]) -> dict[str, Any]:
    """Colours and names, of the same ids; the background's colour is transparent."""
    shown = [{"label-value": one, "rgba": [*colours.get(one, class_colour(one)), 255]} for one in sorted(ids)]
    named = [{"label-value": one, "name": names.get(one) or f"label {one}"} for one in sorted(ids)]
    return {
        "colors": [{"label-value": 0, "rgba": [0, 0, 0, 0]}, *shown],
        "properties": [{"label-value": 0, "name": "background"}, *named],
    }


def _pyramid(array: np.ndarray) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    """Levels and their factors. Every second voxel is kept: ids cannot be averaged."""
    levels = [(array, (1,) * array.ndim)]
    while max(levels[-1][0].shape) > _LARGEST:
        last, factors = levels[-1]
        steps = [2 if size > _SMALLEST else 1 for size in last.shape]
        smaller = last[tuple(slice(None, None, step) for step in steps)]
        levels.append((smaller, tuple(by * step for by, step in zip(factors, steps, strict=True))))
    return levels


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            with (Path(parent) / name).open("rb+") as stream:
                os.fsync(stream.fileno())
        sync_folder(Path(parent))
