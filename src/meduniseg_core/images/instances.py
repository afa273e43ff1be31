"""Lists of instances (lesions, nuclei) beside a label map: each with its box, its score and its size, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.formats import stem_of
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image
from meduniseg_core.structured_text import json_text
from meduniseg_core.validation import read_as

FORMAT = "meduniseg-boxes"
_LARGEST = 1 << 26  # bytes of a list of boxes
_SUFFIX = "_boxes.json"


@dataclass(frozen=True)
class Instance:
    """One connected piece of a class.

    ``box`` is half-open, in voxels along (D, H, W) of the image's own grid. ``score``: 0 to 1. ``size`` is in ``unit``,
    as in a result's table.
    """

    label: int
    name: str
    box: Box
    score: float
    voxels: int
    size: float
    unit: Literal["ml", "mm2", "pixels"]


class BoxEntry(BaseModel):
    """One instance in a file. The boxes in mm are None for images without a voxel size."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    label: int = Field(ge=1)
    name: str = Field(alias="class")
    score: float = Field(ge=0, le=1)
    box: Box
    box_mm: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None
    extent_mm: tuple[float, float, float] | None = None
    voxels: int = Field(ge=1)
    size: float
    unit: Literal["ml", "mm2", "pixels"]

    @field_validator("box")
    @classmethod
    def _not_empty(cls, box: Box) -> Box:
        if any(not 0 <= low < high for low, high in box):
            raise ValueError("a box begins before it ends")
        return box


class BoxFile(BaseModel):
    """The list of a result's instances, beside its labels. ``shape`` is that of the image's grid, (D, H, W)."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal["meduniseg-boxes"]
    image: str
    task: str
    shape: tuple[int, int, int]
    instances: tuple[BoxEntry, ...]


def box_in_mm(box: Box, geometry: Geometry) -> tuple[tuple[float, float], ...]:
    """The box along the patient's axes that encloses a box of voxels.

    Args:
        box: in voxels along (D, H, W), half-open.
        geometry: of the grid.

    Returns:
        Of x (to the left), y (to the back) and z (to the head) the lowest and the highest value in mm (LPS).
    """
    # a voxel reaches half its size to both sides of its centre
    corners = np.array([(d, h, w, 1.0) for d in box[0] for h in box[1] for w in box[2]])
    corners[:, :3] -= 0.5
    places = (corners @ geometry.affine.T)[:, :3]
    return tuple((float(low), float(high)) for low, high in zip(places.min(axis=0), places.max(axis=0), strict=True))


def boxes_name(labels: Path) -> str:
    """Name the list of boxes beside a label map.

    Args:
        labels: the label map.

    Returns:
        The file's name.
    """
    return f"{stem_of(labels)}{_SUFFIX}"


def boxes_text(instances: Sequence[Instance], labels: Image, image: str, task: str) -> str:
    """Write instances as JSON.

    Args:
        instances: of a result.
        labels: the result's labels, for its grid.
        image: the image's name.
        task: the result's.

    Returns:
        The file's text: boxes in voxels (D, H, W, half-open) and, where the image has a size, in mm of the patient's
        axes (LPS), with the edges' lengths along the image's own axes.
    """
    geometry, physical = labels.geometry, labels.physical
    rows: list[dict[str, Any]] = []
    for one in instances:
        edges = [(high - low) * step for (low, high), step in zip(one.box, geometry.spacing, strict=True)]
        rows.append(
            {
                "class": one.name,
                "label": one.label,
                "score": round(one.score, 4),
                "box": one.box,
                "box_mm": _rounded(box_in_mm(one.box, geometry)) if physical else None,
                "extent_mm": [round(edge, 3) for edge in edges] if physical else None,
                "voxels": one.voxels,
                "size": round(one.size, 6),
                "unit": one.unit,
            }
        )
    content = {
        "format": FORMAT,
        "format_version": 1,
        "image": image,
        "task": task,
        "shape": geometry.shape,
        "axes": "box: voxels along (D, H, W), half-open; box_mm: x, y, z in mm (LPS)",
        "instances": rows,
    }
    return json_text(content)


def read_boxes(path: Path) -> BoxFile:
    """Read a list of boxes.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        BadInputError: it is no such list; the file is named.
    """
    remedy = "segment the image again with --boxes"
    found = read_as(path, BoxFile, "a list of boxes of 'segment --boxes'", remedy, _LARGEST)
    for one in found.instances:
        if any(high > size for (_, high), size in zip(one.box, found.shape, strict=True)):
            raise BadInputError(f"{path}: the box {one.box} leaves the image's grid {found.shape}; write it again.")
    return found


def _rounded(box: tuple[tuple[float, float], ...]) -> list[list[float]]:
    return [[round(low, 3), round(high, 3)] for low, high in box]
