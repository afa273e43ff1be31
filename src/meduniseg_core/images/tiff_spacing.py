"""The voxel size a TIFF states in its OME or ImageJ metadata, in mm."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import tifffile

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import brief, check_spacing

_MM_PER_UNIT = {
    "m": 1000.0,
    "cm": 10.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "um": 1e-3,
    "µm": 1e-3,  # micro sign
    "μm": 1e-3,  # Greek mu
    "\\u00b5m": 1e-3,  # as ImageJ escapes it
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
    "inch": 25.4,
}


def stated_spacing(tiff: tifffile.TiffFile, name: str) -> tuple[float, float, float] | None:
    """``(d, h, w)`` in mm, or None where the file states no size with a unit of length.

    An unstated slice distance is taken to be the pixel's width. Raises BadInputError for sizes of 0 or NaN.
    """
    spacing = _from_ome(tiff, name) if tiff.is_ome else _from_imagej(tiff) if tiff.is_imagej else None
    if spacing is not None:
        check_spacing(spacing, name)
    return spacing


def _from_ome(tiff: tifffile.TiffFile, name: str) -> tuple[float, float, float] | None:
    try:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
        pixels = next((item for item in root.iter() if item.tag.rpartition("}")[2] == "Pixels"), None)
        if pixels is None or "PhysicalSizeX" not in pixels.attrib:
            return None
        sizes: dict[str, float] = {}
        for axis in "XYZ":
            if f"PhysicalSize{axis}" in pixels.attrib:
                scale = _MM_PER_UNIT.get(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
                if scale is None:  # "pixel" or "reference frame"
                    return None
                sizes[axis] = float(pixels.attrib[f"PhysicalSize{axis}"]) * scale
    except (ElementTree.ParseError, ValueError) as error:
        raise BadInputError(f"{name} has unreadable OME metadata ({brief(error)}); export it again.") from error
    width = sizes["X"]
    return sizes.get("Z", width), sizes.get("Y", width), width


def _from_imagej(tiff: tifffile.TiffFile) -> tuple[float, float, float] | None:
    stated: dict[str, Any] = tiff.imagej_metadata or {}
    scale = _MM_PER_UNIT.get(str(stated.get("unit", "")))
    page = tiff.pages.first
    if scale is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    width, height = (_pixel_size(page.tags[tag].value) for tag in ("XResolution", "YResolution"))
    # ImageJ writes the distance of slices, negative where a stack runs downwards
    depth = abs(float(stated.get("spacing", width)))
    return depth * scale, height * scale, width * scale


def _pixel_size(resolution: tuple[int, int]) -> float:
    """ImageJ's resolution is pixels per unit, as a fraction."""
    pixels, units = resolution
    return units / pixels if pixels else 0.0
