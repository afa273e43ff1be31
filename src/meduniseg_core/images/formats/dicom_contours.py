"""Contours of DICOM structure sets (PS3.3 A.19) as label maps, on the grid of the image they were drawn on.

A voxel belongs to a region where its centre lies inside the contours of its plane, counted odd: a contour inside
another one is a hole (the XOR rule), and a hole that is joined to its outline by a channel (a keyhole) is one, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.dicom_labels import Masks, check_series, class_name, label_image, references_of
from meduniseg_core.images.image import Image

BETWEEN_PLANES = "contours between two planes"
"""Why `draw_regions` leaves contours out that an image with more planes would show."""

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_FLAT = 0.2  # of a voxel: how far the points of a contour may lie off its plane
_OFF_PLANE = 0.5  # of the distance of planes: contours further off lie outside the image


def read_contours(dataset: Dataset, path: Path, like: Image | None) -> Image:
    """Draw a structure set on the grid of its image.

    Regions that overlap are joined by the rule of `Masks.join`. Points and open contours mark no voxels.

    Args:
        dataset: The structure set.
        path: Its file.
        like: The image.

    Returns:
        The label map; ids are the numbers of the regions, or 1, 2, ... where those are no ids.

    Raises:
        BadInputError: There is no image, it belongs to another series, or contours do not lie on its planes.
    """
    name = path.name
    if like is None:
        series = ", ".join(sorted(references_of(dataset).series)) or "one that it does not name"
        raise BadInputError(
            f"{name} holds contours, which need the image they were drawn on (series {series}); open both in "
            "napari and save the labels as NIfTI, or export them as a DICOM segmentation."
        )
    if not like.physical or not like.meta.get("orientation_known", True):
        raise BadInputError(f"{like.name} does not say where it lies in the patient, so {name} cannot be placed on it.")
    found = list(check_series(references_of(dataset), like, name))
    names = region_names(dataset)
    masks, left_out = draw_regions(dataset, like, name, names)
    masks.names.update(names)
    if left_out:
        found.append(left_out_finding(left_out, name))
    joined, overlaps = masks.join(name)
    return label_image(joined, like, path, masks, (*found, *overlaps))


def region_names(dataset: Dataset) -> dict[int, str]:
    """List the regions of a structure set.

    Args:
        dataset: The structure set.

    Returns:
        Label id -> name, in the file's order (`read_contours` says what the ids are).
    """
    ids = _ids(dataset)
    regions = dataset.get("StructureSetROISequence") or ()
    return {(label := ids[str(one.get("ROINumber"))]): class_name(one.get("ROIName"), label) for one in regions}


def draw_regions(dataset: Dataset, like: Image, name: str, wanted: Collection[int]) -> tuple[Masks, Counter[str]]:
    """Find the voxels of some regions of a structure set.

    Args:
        dataset: The structure set.
        like: The image that it was drawn on.
        name: The structure set's file, for errors.
        wanted: Label ids of the regions to draw (`region_names`).

    Returns:
        The voxels of each region; and how many contours mark none, by the reason (`BETWEEN_PLANES` among them).

    Raises:
        BadInputError: Contours of these regions do not lie on the image's planes, or are damaged.
    """
    masks = Masks(like.geometry.shape)
    ids = _ids(dataset)
    left_out: Counter[str] = Counter()
    to_index = np.linalg.inv(like.geometry.affine)
    for item in dataset.get("ROIContourSequence") or ():
        label = ids.get(str(item.get("ReferencedROINumber")))
        if label is None:
            raise BadInputError(f"{name} has contours of a region that it does not name; export it again.")
        if label not in wanted:
            continue
        colour = item.get("ROIDisplayColor")
        if colour is not None and len(colour) == 3 and all(0 <= int(value) <= 255 for value in colour):
            masks.colours[label] = (int(colour[0]), int(colour[1]), int(colour[2]))
        _add_region(masks, label, item, to_index, left_out, like, name)
    return masks, left_out


def left_out_finding(left_out: Mapping[str, int], name: str) -> Finding:
    """Say which contours mark no voxels.

    Args:
        left_out: How many, by the reason (`draw_regions`).
        name: The structure set's file.

    Returns:
        The finding.
    """
    listed = ", ".join(f"{count} {what}" for what, count in left_out.items())
    return Finding("labels_left_out", f"{name}: {listed} mark no voxels and were left out.")


def _ids(dataset: Dataset) -> dict[str, int]:
    """The label id of each region by the number that the file gives it."""
    numbers = [str(item.get("ROINumber")) for item in dataset.get("StructureSetROISequence") or ()]
    whole = [int(number) for number in numbers if number.lstrip("+").isdigit()]
    if len(whole) == len(numbers) == len(set(whole)) and all(1 <= number <= 65535 for number in whole):
        return dict(zip(numbers, whole, strict=True))
    return {number: index for index, number in enumerate(dict.fromkeys(numbers), start=1)}


def _add_region(
    masks: Masks, label: int, item: Dataset, to_index: np.ndarray, left_out: Counter[str], like: Image, name: str
) -> None:
    """Draw all contours of a region, plane by plane."""
    planes: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
    for contour in item.get("ContourSequence") or ():
        kind = str(contour.get("ContourGeometricType") or "")
        if kind not in _CLOSED:
            left_out[f"{kind.lower() or 'unknown'} contours"] += 1
            continue
        corners = _points(contour, name)
        if len(corners) < 3:
            left_out["contours of fewer than three points"] += 1
            continue
        points = corners @ to_index[:3, :3].T + to_index[:3, 3]
        axis = int(np.argmin(np.ptp(points, axis=0)))
        middle = float(np.mean(points[:, axis]))
        plane = int(np.rint(middle))
        if np.ptp(points[:, axis]) > 2 * _FLAT or not np.isfinite(middle):
            raise BadInputError(
                f"{name} has contours that do not lie in planes of {like.name}; give the image they were drawn on."
            )
        if not -_OFF_PLANE <= middle < like.geometry.shape[axis] - 1 + _OFF_PLANE:
            raise BadInputError(
                f"{name} has contours outside {like.name} (at plane {middle:.1f} of {like.geometry.shape[axis]}); give "
                "the image they were drawn on."
            )
        if abs(middle - plane) > _FLAT:
            left_out[BETWEEN_PLANES] += 1
            continue
        planes[axis, plane].append(np.delete(points, axis, axis=1))
    for (axis, plane), polygons in planes.items():
        others = [size for index, size in enumerate(like.geometry.shape) if index != axis]
        mask = inside_polygons(polygons, (others[0], others[1]))
        spans = [slice(None)] * 3
        spans[axis] = slice(plane, plane + 1)
        masks.add(label, (spans[0], spans[1], spans[2]), np.expand_dims(mask, axis))


def _points(contour: Dataset, name: str) -> np.ndarray:
    """The points ``(N, 3)`` in LPS mm."""
    try:
        points = np.array([float(value) for value in contour.get("ContourData") or ()])
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name} has an unreadable contour; export it again.") from error
    if points.size % 3 or not np.isfinite(points).all():
        raise BadInputError(
            f"{name} has a contour of {points.size} numbers that are not points in space; export it again."
        )
    return points.reshape(-1, 3)


def inside_polygons(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Find the pixels whose centres lie inside an odd number of polygons.

    Args:
        polygons: Each ``(N, 2)``: row and column of its corners, in pixels (a centre has whole numbers).
        shape: Rows and columns.

    Returns:
        bool ``(rows, columns)``. An edge that is passed twice, as a keyhole's channel, counts as none.
    """
    rows, columns = shape
    crossings = np.zeros((rows, columns + 1), np.int64)
    for corners in polygons:
        begin, end = corners, np.roll(corners, -1, axis=0)
        low, high = np.minimum(begin[:, 0], end[:, 0]), np.maximum(begin[:, 0], end[:, 0])
        # of each edge the rows from its lower end, not including its upper one: corners are counted once
        first = np.clip(np.ceil(low), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(high), 0, rows).astype(np.int64)
        count = last - first
        edge = np.repeat(np.arange(len(corners)), count)
        row = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
        # from the lower end, so that both passes of a channel give the same number
        upward = begin[:, 0] <= end[:, 0]
        bottom, top = np.where(upward[:, None], begin, end), np.where(upward[:, None], end, begin)
        share = (row - bottom[edge, 0]) / (top[edge, 0] - bottom[edge, 0])
        column = bottom[edge, 1] + share * (top[edge, 1] - bottom[edge, 1])
        np.add.at(crossings, (row, np.clip(np.ceil(column), 0, columns).astype(np.int64)), 1)
    inside: np.ndarray = np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1
    return inside
