"""Labels as planar contours in a DICOM RTSTRUCT (VS-SEG), and the cases that have them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from meduniseg_core.conversion.dicom_download import Series, series_in
from meduniseg_core.conversion.file_cases import finished, grouped, source_case
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image
from meduniseg_core.images.formats.dicom_contours import BETWEEN_PLANES, draw_regions, left_out_finding, region_names
from meduniseg_core.images.formats.dicom_label_objects import referenced_series
from meduniseg_core.images.formats.dicom_source import naming, read_object


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
        images = [one for one in found if one.modality == "MR" and re.search(part.series or "", one.description)]
        for one in found:
            if one.modality != "RTSTRUCT":
                continue
            drawn_on = referenced_series(one.first).series
            image = next((image for image in images if image.uid in drawn_on), None)
            if image is not None:
                load = partial(_load, conversion, part, image, one.first)
                cases.append(source_case(part, group, [*image.files, *one.files], load))
    return cases


def structure_labels(path: Path, pattern: str, image: Image) -> Image:
    """Draw the structures of one kind on the grid of their image.

    Args:
        path: The structure set's file.
        pattern: Matches the names of the structures; where there is only one structure, its name does not count.
        image: The image.

    Returns:
        ``(1, D, H, W)``: 1 where any of these structures is. A finding says what marks no voxels (points, open lines).

    Raises:
        BadInputError: No structure has such a name, or a contour does not lie in a slice of the image.
    """
    with naming(path):
        structures = read_object(path)
        names = region_names(structures)
        wanted = [label for label, name in names.items() if len(names) == 1 or re.fullmatch(pattern, name)]
        if not wanted:
            raise BadInputError(
                f"{path} holds no contours of the wanted structure (there are: {', '.join(names.values()) or 'none'}); "
                "leave the case out."
            )
        masks, left_out = draw_regions(structures, image, str(path), wanted)
    if left_out[BETWEEN_PLANES]:
        raise BadInputError(f"{path} has contours that lie in no slice of its image; convert that case by hand.")
    findings = (left_out_finding(left_out, path.name),) if left_out else ()
    return replace(image.with_array(masks.union()[None].astype(np.uint8)), findings=findings)


def _load(conversion: Conversion, part: Part, series: Series, path: Path) -> Loaded:
    image = read_image(series.folder, series=series.uid)
    labels = structure_labels(path, part.structure or "", image)
    return finished(conversion, part, [image], labels, [None])
