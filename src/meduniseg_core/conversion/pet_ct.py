"""PET/CT studies as an archive stores them: DICOM of CT, PET and a binary segmentation (AutoPET)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from meduniseg_core.conversion.dicom_download import Series, element, header_of, series_in
from meduniseg_core.conversion.file_cases import Group, finished, grouped, source_case
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree
from meduniseg_core.conversion.suv import suv_factor
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.images.formats.dicom_source import naming

_OFF_GRID = 0.25  # voxels that a segmentation's frame may lie beside the PET's


def pet_ct_cases(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    """Find the studies of a part that have CT, PET and a segmentation.

    Args:
        conversion: The data set.
        part: The part; its pattern's groups tell studies apart.
        tree: The download's files.

    Returns:
        The studies; whether one has a lesion is only known when it is read.

    Raises:
        BadInputError: A header cannot be read.
    """
    cases = []
    for group in grouped(part, tree):
        series = series_in(tree, [*group.images[0], *group.doubles])
        if {"CT", "PT", "SEG"} <= {one.modality for one in series}:
            cases.append(_case(conversion, part, group, series))
    return cases


def _case(conversion: Conversion, part: Part, group: Group, series: list[Series]) -> SourceCase:
    files = [file for one in series if one.modality in ("CT", "PT", "SEG") for file in one.files]
    load = partial(_load, conversion, part, series)
    return source_case(part, group, files, load, partial(_has_target, series))


def segmentation_mask(path: Path, geometry: Geometry) -> np.ndarray:
    """Read a binary DICOM segmentation onto an image's grid.

    Args:
        path: The segmentation's file.
        geometry: The grid that it was drawn on.

    Returns:
        Bool ``(D, H, W)``: all segments together.

    Raises:
        BadInputError: It is no binary segmentation, cannot be read, or a frame does not lie on that grid.
    """
    with naming(path):
        dataset = dcmread(path)
        planes = _planes(dataset, path)
        places = [_frame_affine(dataset, number, path) for number in range(len(planes))]
    mask = np.zeros(geometry.shape, dtype=bool)
    to_index = np.linalg.inv(geometry.affine)
    for plane, affine in zip(planes, places, strict=True):
        if plane.any():
            _put(mask, plane, to_index @ affine, path)
    return mask


def _planes(dataset: Dataset, path: Path) -> np.ndarray:
    """Bool (frames, rows, columns)."""
    if str(dataset.get("SegmentationType", "")) != "BINARY":
        raise BadInputError(f"{path} is no binary DICOM segmentation; leave that study out.")
    return np.asarray(dataset.pixel_array, dtype=bool).reshape(-1, int(dataset.Rows), int(dataset.Columns))


def _has_target(series: list[Series]) -> bool:
    path = _only(series, "SEG").first
    with naming(path):
        return bool(_planes(dcmread(path), path).any())


def _frame_affine(dataset: Dataset, number: int, path: Path) -> np.ndarray:
    """(4, 3) of float64: from (row, column, 1) of a frame to (x, y, z, 1) in LPS mm."""
    shared = dataset.get("SharedFunctionalGroupsSequence", [Dataset()])[0]
    own = dataset.PerFrameFunctionalGroupsSequence[number]

    def group(sequence: str, keyword: str) -> list[float]:
        for groups in (own, shared):
            if sequence in groups:
                return [float(value) for value in element(groups[sequence][0], keyword, path, "its position")]
        raise BadInputError(f"{path} has no {keyword}, which its position needs; download it again.")

    orientation = np.array(group("PlaneOrientationSequence", "ImageOrientationPatient"))
    down, across = group("PixelMeasuresSequence", "PixelSpacing")
    matrix = np.zeros((4, 3))
    matrix[:3, 0], matrix[:3, 1] = orientation[3:] * down, orientation[:3] * across
    matrix[:, 2] = [*group("PlanePositionSequence", "ImagePositionPatient"), 1.0]
    return matrix


def _put(mask: np.ndarray, plane: np.ndarray, to_voxel: np.ndarray, path: Path) -> None:
    marked = np.argwhere(plane)
    index = np.column_stack([marked, np.ones(len(marked))]) @ to_voxel[:3].T
    voxels = np.rint(index).astype(int)
    inside = ((voxels >= 0) & (voxels < mask.shape)).all(axis=1)
    if not inside.all() or np.abs(index - voxels).max() > _OFF_GRID:
        raise BadInputError(f"{path} does not lie on the voxels of its PET; leave that study out.")
    mask[tuple(voxels.T)] = True


def _load(conversion: Conversion, part: Part, series: list[Series]) -> Loaded:
    ct, pet, segmentation = (_only(series, modality) for modality in ("CT", "PT", "SEG"))
    uptake = _uptake(pet)
    mask = segmentation_mask(segmentation.first, uptake.geometry)
    labels = uptake.with_array(mask[None].astype(np.uint8))
    return finished(conversion, part, [read_image(ct.folder, series=ct.uid), uptake], labels, [None, None])


def _uptake(pet: Series) -> Image:
    image = read_image(pet.folder, series=pet.uid)
    factor = suv_factor(header_of(pet.first), pet.first)
    return image.with_array((image.array * np.float32(factor)).astype(np.float32))


def _only(series: list[Series], modality: str) -> Series:
    found = [one for one in series if one.modality == modality]
    if len(found) != 1 or (modality == "SEG" and len(found[0].files) != 1):
        raise BadInputError(f"{found[0].folder.parent} holds several series of {modality}; keep the one of the study.")
    return found[0]
