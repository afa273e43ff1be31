"""PET/CT studies as an archive stores them: DICOM of CT, PET and a binary segmentation (AutoPET)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.conversion.dicom_download import Series, series_in
from meduniseg_core.conversion.file_cases import FileGroup, finished, grouped, source_case
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, place_labels, read_image
from meduniseg_core.images.formats.dicom_segmentation import frame_values, read_segmentation
from meduniseg_core.images.formats.dicom_source import naming, read_object
from meduniseg_core.images.formats.dicom_suv import suv_factor


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


def _case(conversion: Conversion, part: Part, group: FileGroup, series: list[Series]) -> SourceCase:
    files = [file for one in series if one.modality in ("CT", "PT", "SEG") for file in one.files]
    load = partial(_load, conversion, part, series)
    return source_case(part, group, files, load, partial(_has_target, series))


def segmentation_labels(path: Path, image: Image) -> Image:
    """Read a binary DICOM segmentation onto the grid of its image.

    Args:
        path: The segmentation's file.
        image: The image that it was drawn on.

    Returns:
        ``(1, D, H, W)``: 1 where any segment is.

    Raises:
        BadInputError: It is not a binary segmentation, cannot be read, was drawn on another series, or does not lie on
            the image's voxels.
    """
    with naming(path):
        labels = place_labels(read_segmentation(_binary(path), path, image), image)
    return labels.with_array((labels.array > 0).astype(np.uint8))


def _binary(path: Path) -> Dataset:
    dataset = read_object(path)
    if str(dataset.get("SegmentationType", "")) != "BINARY":
        raise BadInputError(f"{path} is not a binary DICOM segmentation; leave that study out.")
    return dataset


def _has_target(series: list[Series]) -> bool:
    path = _only(series, "SEG").first
    with naming(path):
        return any(bool(frame.any()) for frame in frame_values(_binary(path), path.name))


def _load(conversion: Conversion, part: Part, series: list[Series]) -> Loaded:
    ct, pet, segmentation = (_only(series, modality) for modality in ("CT", "PT", "SEG"))
    uptake = _uptake(pet)
    labels = segmentation_labels(segmentation.first, uptake)
    return finished(conversion, part, [read_image(ct.folder, series=ct.uid), uptake], labels, [None, None])


def _uptake(pet: Series) -> Image:
    image = read_image(pet.folder, series=pet.uid)
    if not image.meta.get("suv"):
        suv_factor(read_object(pet.first), pet.first)  # says why not
    return image.with_array(image.array.astype(np.float32, copy=False))


def _only(series: list[Series], modality: str) -> Series:
    found = [one for one in series if one.modality == modality]
    if len(found) != 1 or (modality == "SEG" and len(found[0].files) != 1):
        raise BadInputError(f"{found[0].folder.parent} holds several series of {modality}; keep the one of the study.")
    return found[0]
