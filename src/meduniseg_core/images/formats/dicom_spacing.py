"""The size of a DICOM pixel in mm: from the field meant for it, or from one that the user must be told about."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding

SpacingSource = Literal["image", "detector", "scanner", "regions", "regions_differ", "none"]

PROJECTIONS = frozenset({"CR", "DX", "MG", "PX", "IO", "RF", "XA", "RG"})
"""Projection modalities: their pixels are measured at the detector, where the shadow is larger than the body."""

_CENTIMETRES = 3  # PhysicalUnitsXDirection
_SAME = 1e-3  # relative


class DicomElements(Protocol):
    """Something that gives the values of elements: a data set, or one frame's view of it."""

    def get(self, keyword: str, default: Any = None) -> Any:
        """Look an element up.

        Args:
            keyword: DICOM's keyword.
            default: What to give where the element is absent.

        Returns:
            Its value, or ``default``.
        """


def pixel_spacing(header: DicomElements, modality: str, name: str) -> tuple[tuple[float, float] | None, SpacingSource]:
    """Find the pixel size.

    Args:
        header: The frame's header.
        modality: DICOM's code: CT, DX, ...
        name: The file's name, for the message.

    Returns:
        (row distance, column distance) in mm, or None, and the field that gives it.

    Raises:
        BadInputError: A size is unreadable, or not positive and finite.
    """
    spacing = _size(header, "PixelSpacing", name)
    detector = _size(header, "ImagerPixelSpacing", name) if spacing is None or modality in PROJECTIONS else None
    if spacing is not None:
        uncalibrated = not header.get("PixelSpacingCalibrationType")
        at_detector = detector is not None and uncalibrated and np.allclose(spacing, detector, rtol=_SAME)
        return spacing, "detector" if at_detector else "image"
    if detector is not None:
        return detector, "detector"
    regions = header.get("SequenceOfUltrasoundRegions")
    if regions:
        scale = _region_scale(regions)
        return (None, "regions_differ") if scale is None else (scale, "regions")
    scanned = _size(header, "NominalScannedPixelSpacing", name)
    return (None, "none") if scanned is None else (scanned, "scanner")


def pixel_aspect(header: DicomElements, name: str) -> float:
    """Find the shape of pixels, which files without a pixel size give where it is not square.

    Args:
        header: The frame's header.
        name: The file's name.

    Returns:
        A pixel's height over its width; 1 where the file does not say, or nothing that can be read.
    """
    try:
        stated = floats(header, "PixelAspectRatio", 2, name)
    except BadInputError:
        return 1.0
    return stated[0] / stated[1] if stated is not None and stated[1] else 1.0


def spacing_finding(spacing: tuple[float, float] | None, source: SpacingSource, name: str) -> Finding | None:
    """Say what the user must know about a pixel size.

    Args:
        spacing: (row distance, column distance) in mm; None where the file gives none.
        source: The field that gives it.
        name: The file's name.

    Returns:
        A finding; None where nothing is unusual.
    """
    size = "" if spacing is None else f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"
    if source == "detector":
        return Finding(
            "spacing_assumed",
            f"{name} gives its pixel size ({size}) at the detector only; the body is smaller, by the "
            "magnification, so lengths and volumes come out too large.",
        )
    if source == "scanner":
        return Finding(
            "spacing_assumed",
            f"{name} gives its pixel size ({size}) as scanned from film or paper; lengths may be wrong by its scale.",
        )
    if source == "regions":
        return Finding("spacing_assumed", f"{name}: the pixel size ({size}) is that of its ultrasound regions.", "info")
    if source == "regions_differ":
        return Finding(
            "spacing_assumed",
            f"{name} has ultrasound regions of different scales, so no size in mm is taken from them.",
        )
    return None


def _region_scale(regions: Any) -> tuple[float, float] | None:
    """The one scale of all regions, in mm, or None where they differ or measure something else than lengths."""
    scales = []
    for region in regions:
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        try:
            delta = abs(float(region.get("PhysicalDeltaY"))) * 10, abs(float(region.get("PhysicalDeltaX"))) * 10
        except (TypeError, ValueError):
            return None
        if units != (_CENTIMETRES, _CENTIMETRES) or not all(np.isfinite(delta)) or min(delta) <= 0:
            return None
        scales.append(delta)
    same = bool(scales) and all(np.allclose(scale, scales[0], rtol=_SAME) for scale in scales)
    return scales[0] if same else None


def _size(header: DicomElements, keyword: str, name: str) -> tuple[float, float] | None:
    numbers = floats(header, keyword, 2, name)
    if numbers is None:
        return None
    if not all(np.isfinite(value) and value > 0 for value in numbers):
        raise BadInputError(
            f"{name} gives a pixel size of {numbers[0]:g} x {numbers[1]:g}, which is impossible; export it again."
        )
    return numbers[0], numbers[1]


def floats(header: DicomElements, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """Read the numbers of an element.

    Args:
        header: The frame's header.
        keyword: The element's keyword.
        count: How many numbers it must have.
        name: The file's name, for the message.

    Returns:
        The numbers; None where the element is absent or empty.

    Raises:
        BadInputError: The element holds another count, or something other than numbers.
    """
    try:
        value = header.get(keyword)
        if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
            return None
        values = [float(item) for item in value] if hasattr(value, "__iter__") else [float(value)]
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name} has an unreadable {keyword} in its header; export it again.") from error
    if len(values) != count:
        raise BadInputError(f"{name} has {len(values)} numbers for {keyword} instead of {count}; export it again.")
    return tuple(values)
