"""Where DICOM slices lie: read from each header, checked as a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.geometry import Geometry

UNEVEN_TOLERANCE = 0.05
"""Largest distance of a slice from its place in an even stack, as a fraction of the slice distance."""


@dataclass(frozen=True)
class Slice:
    """One file's place: in mm, LPS. ``orientation`` is (row direction, column direction), six cosines."""

    path: Path
    uid: str
    number: str
    description: str
    modality: str
    rows: int
    columns: int
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    thickness: float | None

    @property
    def key(self) -> tuple[Any, ...]:
        """What the slices of one stack have in common."""
        turned = None if self.orientation is None else tuple(round(value, 3) + 0.0 for value in self.orientation)
        pixel = None if self.spacing is None else tuple(round(value, 4) for value in self.spacing)
        return (self.uid, self.rows, self.columns, turned, pixel)


def slice_of(dataset: Dataset, path: Path) -> Slice:
    """The place of a single-frame data set; BadInputError for multi-frame files and impossible headers."""
    name = path.name
    frames = _floats(dataset, "NumberOfFrames", 1, name)
    if frames is not None and frames[0] > 1:
        raise BadInputError(
            f"{name} holds {frames[0]:.0f} frames in one file; convert it to NIfTI (with dcm2niix, say) first."
        )
    rows, columns = int(dataset.Rows or 0), int(dataset.Columns or 0)
    if rows < 1 or columns < 1:
        raise BadInputError(f"{name} has impossible sizes ({rows}x{columns}) in its header; export it again.")
    spacing = _floats(dataset, "PixelSpacing", 2, name) or _floats(dataset, "ImagerPixelSpacing", 2, name)
    if spacing is not None and not all(np.isfinite(value) and value > 0 for value in spacing):
        raise BadInputError(
            f"{name} gives a pixel size of {spacing[0]:g} x {spacing[1]:g}, which cannot be; export it again."
        )
    thickness = _floats(dataset, "SpacingBetweenSlices", 1, name) or _floats(dataset, "SliceThickness", 1, name)
    return Slice(
        path=path,
        uid=str(dataset.get("SeriesInstanceUID") or ""),
        number=str(dataset.get("SeriesNumber") or ""),
        description=str(dataset.get("SeriesDescription") or ""),
        modality=str(dataset.get("Modality") or ""),
        rows=rows,
        columns=columns,
        orientation=_orientation(dataset, name),
        position=_floats(dataset, "ImagePositionPatient", 3, name),
        spacing=None if spacing is None else (spacing[0], spacing[1]),
        thickness=None if thickness is None or not thickness[0] > 0 else thickness[0],
    )


def stack_geometry(slices: Sequence[Slice], name: str) -> tuple[list[int], Geometry]:
    """The order of ``slices`` along their normal, and the grid they make; BadInputError where they make none.

    d runs from the first to the last slice, so the columns of a tilted gantry's grid are not perpendicular.
    """
    first = slices[0]
    shape = (len(slices), first.rows, first.columns)
    in_plane = first.spacing or (1.0, 1.0)
    if first.orientation is None or any(item.position is None for item in slices):
        if len(slices) > 1:
            raise BadInputError(
                f"{name} has {len(slices)} images without a position in space; pass a single file of them."
            )
        return [0], Geometry(shape, (first.thickness or 1.0 if first.spacing else 1.0, *in_plane))
    along_w, along_h = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(along_w, along_h)
    positions = np.array([item.position for item in slices])
    if not np.isfinite(positions).all():
        raise BadInputError(f"{name} has a position that is NaN or infinite; export the series again.")
    heights = positions @ normal
    order = [int(index) for index in np.argsort(heights, kind="stable")]
    positions, heights = positions[order], heights[order]
    if len(slices) > 1:
        step = (positions[-1] - positions[0]) / (len(slices) - 1)
        _check_even(positions, heights, step, [slices[index].path.name for index in order], name)
    else:
        step = normal * (first.thickness or 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, along_h * in_plane[0], along_w * in_plane[1]
    affine[:3, 3] = positions[0]
    return order, Geometry.from_affine(affine, shape)


def _check_even(positions: np.ndarray, heights: np.ndarray, step: np.ndarray, files: list[str], name: str) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    same = int(np.argmin(gaps))
    if gaps[same] < max(1e-3, 0.1 * usual):
        raise BadInputError(
            f"{name} has several slices at one place ({files[same]} and {files[same + 1]}: time points or copies); "
            "put one volume's files into a folder of their own."
        )
    wide = int(np.argmax(gaps))
    if gaps[wide] > 1.5 * usual:
        missing = int(np.sum(np.maximum(np.rint(gaps / usual) - 1, 0)))
        raise BadInputError(
            f"{name} misses about {missing} slice(s): {gaps[wide]:.4g} mm lie between {files[wide]} and "
            f"{files[wide + 1]}, elsewhere {usual:.4g} mm; export the complete series."
        )
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.abs(positions - expected).max())
    if off > UNEVEN_TOLERANCE * float(np.linalg.norm(step)):
        raise BadInputError(
            f"{name} has unevenly spaced slices ({gaps.min():.4g} to {gaps.max():.4g} mm apart, up to {off:.3g} mm "
            "out of place); export it with even spacing or resample it first."
        )


def _orientation(dataset: Dataset, name: str) -> tuple[float, ...] | None:
    cosines = _floats(dataset, "ImageOrientationPatient", 6, name)
    if cosines is None:
        return None
    rows = np.array(cosines).reshape(2, 3)
    if not np.isfinite(rows).all() or not np.allclose(rows @ rows.T, np.eye(2), atol=1e-3):
        raise BadInputError(f"{name} has an impossible orientation ({list(cosines)}); export the series again.")
    return cosines


def _floats(dataset: Dataset, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """The numbers of an element, or None where it is absent or empty."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
            return None
        values = [float(item) for item in value] if hasattr(value, "__iter__") else [float(value)]
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name} has an unreadable {keyword} in its header; export it again.") from error
    if len(values) != count:
        raise BadInputError(f"{name} has {len(values)} numbers for {keyword} instead of {count}; export it again.")
    return tuple(values)
