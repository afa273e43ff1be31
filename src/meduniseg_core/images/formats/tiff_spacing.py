"""The voxel size of a TIFF in mm: from the JSON that nnU-Net puts beside a stack, or from OME or ImageJ metadata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import brief, check_spacing
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats import channel_of
from meduniseg_core.structured_text import try_read_json

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
    "pm": 1e-9,
    "\u00c5": 1e-7,  # angstrom
    "\u212b": 1e-7,  # the sign of that name
    "dm": 100.0,
    "inch": 25.4,
    "inches": 25.4,
    "in": 25.4,
    "thou": 0.0254,
    "li": 25.4 / 12,  # line
    "ft": 304.8,
    "yd": 914.4,
}


_LARGEST_JSON = 1 << 20  # bytes

Spacing = tuple[float, float, float]


def voxel_size(tiff: tifffile.TiffFile, path: Path) -> tuple[Spacing | None, tuple[Finding, ...]]:
    """Find a TIFF's voxel size.

    nnU-Net's JSON takes precedence over the file's own metadata, because people write it for this purpose; the finding
    "spacing_assumed" says so. A slice distance that is not given is taken to be the pixel's width.

    Args:
        tiff: The open file.
        path: The file.

    Returns:
        ``(d, h, w)`` in mm (None where nothing gives a size with a unit of length), and findings.

    Raises:
        BadInputError: A size is impossible or unreadable, or the JSON's spacing is not three numbers.
    """
    name = path.name
    own = _from_ome(tiff, name) if tiff.is_ome else _from_imagej(tiff, name) if tiff.is_imagej else None
    if own is not None:
        check_spacing(own, name)
    for beside in _json_files(path):
        found = _from_json(beside, name)
        if found is None:
            continue
        check_spacing(found, beside.name)
        differs = own is not None and any(abs(a - b) > 0.01 * a for a, b in zip(found, own, strict=True))
        text = f"{name}: the voxel size {_shown(found)} mm is that of {beside.name}"
        text += f", and not the {_shown(own)} mm that the file itself states." if own is not None and differs else "."
        return found, (Finding("spacing_assumed", text, "warning" if differs else "info"),)
    return own, ()


def page_aspect(page: tifffile.TiffPage) -> float:
    """Find the shape of a page's pixels from its resolutions, whose unit does not matter.

    Args:
        page: The page.

    Returns:
        A pixel's height over its width; 1 where the page does not say.
    """
    try:
        width, height = (_pixel_size(page.tags[tag].value) for tag in ("XResolution", "YResolution"))
        return height / width
    except (KeyError, ValueError, TypeError, ArithmeticError):
        return 1.0


def _shown(spacing: Spacing) -> str:
    return " x ".join(f"{value:g}" for value in spacing)


def _json_files(path: Path) -> tuple[Path, ...]:
    """``CASE.json`` of ``CASE.tif``, and of the channel ``CASE_0000.tif``."""
    stem = path.name[: path.name.rindex(".")]
    return tuple(path.with_name(f"{item}.json") for item in dict.fromkeys((stem, channel_of(stem)[0])))


def _from_json(beside: Path, name: str) -> Spacing | None:
    """nnU-Net's ``{"spacing": [d, h, w]}`` in mm; None where there is no such file, or it is another JSON."""
    content = try_read_json(beside, _LARGEST_JSON)
    if not isinstance(content, dict) or "spacing" not in content:
        return None
    values = content["spacing"]
    if not (isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)):
        raise BadInputError(
            f"{beside.name} beside {name} has a 'spacing' that is not three numbers; write it as [d, h, w] in mm."
        )
    try:
        return float(values[0]), float(values[1]), float(values[2])
    except OverflowError:
        return math.inf, math.inf, math.inf


def _from_ome(tiff: tifffile.TiffFile, name: str) -> Spacing | None:
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


def _from_imagej(tiff: tifffile.TiffFile, name: str) -> Spacing | None:
    stated: dict[str, Any] = tiff.imagej_metadata or {}
    scale = _MM_PER_UNIT.get(str(stated.get("unit", "")))
    page = tiff.pages.first
    if scale is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    try:
        width, height = (_pixel_size(page.tags[tag].value) for tag in ("XResolution", "YResolution"))
        # ImageJ writes the distance of slices, negative where a stack runs downwards
        depth = abs(float(stated.get("spacing", width)))
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInputError(f"{name} has an unreadable ImageJ voxel size ({brief(error)}); export it again.") from error
    return depth * scale, height * scale, width * scale


def _pixel_size(resolution: tuple[int, int]) -> float:
    """ImageJ's resolution is pixels per unit, as a fraction."""
    pixels, units = resolution
    return units / pixels if pixels else 0.0
