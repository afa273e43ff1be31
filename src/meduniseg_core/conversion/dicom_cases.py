"""Cases whose image is a DICOM series, and whose labels are an NRRD file (NCI-ISBI) or another series (I2CVB)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from meduniseg_core.conversion.dicom_download import Series, series_in
from meduniseg_core.conversion.file_cases import FileGroup, finished, grouped, source_case
from meduniseg_core.conversion.labels import label_map
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image


def dicom_series_cases(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    """Find the cases of a part whose images are DICOM series.

    Args:
        conversion: The data set.
        part: The part; its image pattern finds all files of a case's series.
        tree: The download's files.

    Returns:
        The cases that have labels.
    """
    cases = []
    for group in grouped(part, tree):
        names = [*group.images[0], *group.doubles]
        series = [found for found in series_in(tree, names) if found.modality not in ("SEG", "RTSTRUCT", "SR")]
        if series and group.labels:
            files = [file for found in series for file in found.files]
            files += [tree.path(path) for _, path in group.labels]
            cases.append(source_case(part, group, files, partial(_load, conversion, part, tree.root, group, series)))
    return cases


def _load(conversion: Conversion, part: Part, root: Path, group: FileGroup, series: list[Series]) -> Loaded:
    rule, first = group.labels[0]
    paths = {root / path for _, path in group.labels}
    folders = {path.parent for path in paths}
    # a folder of slices is read as a whole; of single files there can be one
    label = root / first if len(paths) == 1 and not _is_slice(first) else folders.pop()
    if len(paths) > 1 and (folders or not _is_slice(first)):
        raise BadInputError(f"{label} is not the only label map of its case; keep one of them.")
    fitting: list[tuple[Image, Image]] = []
    reasons: list[BadInputError] = []
    for one in series:
        try:
            image = read_image(one.folder)
            fitting.append((image, label_map(image, [(rule, label)], conversion.task.classes)))
        except BadInputError as error:
            reasons.append(error)
    if not fitting:
        raise reasons[0]
    if len(fitting) > 1:
        raise BadInputError(
            f"{fitting[0][0].source} and {fitting[1][0].source} both fit {label}; keep the series that was labelled."
        )
    image, labels = fitting[0]
    return finished(conversion, part, [image], labels, [None])


def _is_slice(name: str) -> bool:
    return Path(name).suffix.lower() not in (".nrrd", ".nii", ".gz", ".mha", ".mhd")
