"""Labels as planar contours in a DICOM RTSTRUCT (VS-SEG), and the cases that have them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from meduniseg_core.conversion.dicom_download import Series, header_of, series_in
from meduniseg_core.conversion.file_cases import finished, grouped, source_case
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, read_image

_IN_PLANE = 0.5  # slices that a contour may lie beside one


def contour_cases(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    """Find the cases of a part whose image is a DICOM series with a structure set that refers to it.

    Args:
        conversion: The data set.
        part: The part: which series (by its description) and which structures (by name).
        tree: The download's files.

    Returns:
        The cases.

    Raises:
        BadInputError: A header cannot be read.
    """
    cases = []
    for group in grouped(part, tree):
        found = series_in(tree, [*group.images[0], *group.doubles])
        images = {
            one.uid: one for one in found if one.modality == "MR" and re.search(part.series or "", one.description)
        }
        for one in found:
            if one.modality == "RTSTRUCT" and (image := images.get(_refers_to(header_of(one.first)))) is not None:
                load = partial(_load, conversion, part, image, one.first)
                cases.append(source_case(part, group, [*image.files, *one.files], load))
    return cases


def contour_mask(structures: Dataset, pattern: str, geometry: Geometry, path: Path) -> np.ndarray:
    """Fill the contours of the structures of one kind.

    A pixel belongs to a structure if its centre lies inside an odd number of the contours of its slice, so that a
    contour inside another one is a hole.

    Args:
        structures: The structure set.
        pattern: Matches the names of the structures; where there is only one structure, its name does not count.
        geometry: The image's grid. Contours must lie in its slices.
        path: The structure set's file, for errors.

    Returns:
        Bool ``(D, H, W)``.

    Raises:
        BadInputError: No structure has such a name, or a contour lies in no slice.
    """
    names = {int(roi.ROINumber): str(roi.ROIName).strip() for roi in structures.get("StructureSetROISequence", ())}
    wanted = [number for number, name in names.items() if len(names) == 1 or re.fullmatch(pattern, name)]
    if not wanted:
        raise BadInputError(
            f"{path} holds no contours of the wanted structure (there are: {', '.join(names.values()) or 'none'}); "
            "leave the case out."
        )
    mask = np.zeros(geometry.shape, dtype=bool)
    to_index = np.linalg.inv(geometry.affine)
    for contours in structures.get("ROIContourSequence", ()):
        if int(contours.ReferencedROINumber) in wanted:
            mask |= _filled(contours, to_index, geometry, path)
    return mask


def _filled(contours: Dataset, to_index: np.ndarray, geometry: Geometry, path: Path) -> np.ndarray:
    mask = np.zeros(geometry.shape, dtype=bool)
    for contour in contours.get("ContourSequence", ()):
        points = np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        if len(points) < 3:  # a point or a line encloses nothing
            continue
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        place = round(float(index[:, 0].mean()))
        if not 0 <= place < geometry.shape[0] or np.abs(index[:, 0] - place).max() > _IN_PLANE + 1e-3:
            raise BadInputError(f"{path} has a contour that lies in no slice of its image; convert that case by hand.")
        mask[place] ^= polygon2mask(geometry.shape[1:], index[:, 1:])
    return mask


def _refers_to(structures: Dataset) -> str:
    """The UID of the series that a structure set was drawn on; empty where it does not say."""
    for frame in structures.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            for series in study.get("RTReferencedSeriesSequence", ()):
                return str(series.get("SeriesInstanceUID", ""))
    return ""


def _load(conversion: Conversion, part: Part, series: Series, path: Path) -> Loaded:
    image = read_image(series.folder, series=series.uid)
    mask = contour_mask(header_of(path), part.structure or "", image.geometry, path)
    labels = image.with_array(mask[None].astype(np.uint8))
    return finished(conversion, part, [image], labels, [None])
