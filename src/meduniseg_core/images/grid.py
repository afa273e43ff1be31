"""Do two arrays of voxels lie on one grid? The one definition, for everything that compares or joins images.

Two grids are the same where every voxel of one lies on a voxel of the other, whatever the order and direction of their
axes. The distance allowed at each corner is `TOLERANCE` of the smallest voxel edge. The extents may differ: a label map
that was cropped, or that reaches beyond its image, lies on the image's grid, shifted by whole voxels. Nothing is
resampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Literal

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.geometry import Geometry, Shape3
from meduniseg_core.images.image import Image
from meduniseg_core.images.orientation import Reorientation
from meduniseg_core.images.upright import meet

TOLERANCE = 1 / 20
"""How far the furthest corner may lie off, as a fraction of the smallest voxel edge.

Headers round (single precision, six digits, DICOM's 16 characters), which makes a few hundredths of a voxel over 512
voxels. Half a voxel would be too much: there another neighbour becomes the nearest.
"""

_MOST_JOINED = 2**28
"""The most voxels of a grid for two label maps: more than any scan has, so that a wrong origin cannot fill memory."""

_LITTLE_SHARED = 0.5
"""Of the smaller of two label maps: less of it lies on the other one only by a wrong origin, or in separate crops."""

Relation = Literal["same", "reordered", "shifted", "other"]


@dataclass(frozen=True)
class Placement:
    """How one grid lies on another.

    - ``same``: voxel by voxel.
    - ``reordered``: voxel by voxel after ``change``, which permutes and flips axes.
    - ``shifted``: after ``change``, voxel (0, 0, 0) lies at index ``shift`` (d, h, w) of the other grid, and the
      extents differ.
    - ``other``: the voxels do not coincide; the corner furthest off lies ``apart`` mm from the nearest voxel.
    """

    relation: Relation
    change: Reorientation = field(default_factory=Reorientation)
    shift: Shape3 = (0, 0, 0)
    apart: float = 0.0


def relate(grid: Geometry, target: Geometry) -> Placement:
    """Find out how one grid lies on another, in any of the 48 orientations.

    Args:
        grid: The grid to place.
        target: The grid to place it on.

    Returns:
        The first orientation that fits (the stored one is tried first), else the nearest one, as ``other``.
    """
    tolerance = TOLERANCE * _smallest_edge(grid, target)
    to_index = np.linalg.inv(target.affine)
    nearest: Placement | None = None
    for axes in permutations((0, 1, 2)):
        change = _turned(grid, target, (axes[0], axes[1], axes[2]))
        turned = change.forward_geometry(grid)
        first = to_index @ np.array([*turned.origin, 1.0])
        # of two single slices either both lie at one place, or they are different slices
        flat = (np.array(turned.shape) == 1) & (np.array(target.shape) == 1)
        steps = np.where(flat, 0.0, np.rint(first[:3]))
        if not np.isfinite(steps).all() or np.abs(steps).max() > 2**31:
            continue
        shift = (int(steps[0]), int(steps[1]), int(steps[2]))
        apart = _apart(turned, target, shift)
        if apart <= tolerance:
            if shift != (0, 0, 0) or turned.shape != target.shape:
                return Placement("shifted", change, shift, apart)
            return Placement("same" if change.is_identity else "reordered", change, shift, apart)
        if nearest is None or apart < nearest.apart:
            nearest = Placement("other", change, shift, apart)
    return nearest if nearest is not None else Placement("other", apart=float("inf"))


def same_grid(first: Geometry, second: Geometry) -> bool:
    """Say whether two grids have the same voxels in the same order.

    Args:
        first: A grid.
        second: Another one.

    Returns:
        True where they lie on each other voxel by voxel.
    """
    return relate(first, second).relation == "same"


def reorient_to(image: Image, geometry: Geometry) -> Image:
    """Permute and flip an image's axes onto a grid.

    Args:
        image: ``(C, D, H, W)``.
        geometry: The grid to bring it to.

    Returns:
        The image on exactly ``geometry``; its array is a view.

    Raises:
        BadInputError: The image lies on another grid, or has another extent.
    """
    placement = relate(image.geometry, geometry)
    if placement.relation not in ("same", "reordered"):
        raise BadInputError(
            f"{image.name} lies on another grid ({describe_grid(image.geometry)}) than the image it belongs to "
            f"({describe_grid(geometry)}); resample it onto that image first."
        )
    return replace(image, array=placement.change.forward(image.array), geometry=geometry)


def place_labels(labels: Image, image: Image) -> Image:
    """Put a label map on exactly the grid of its image. No value is interpolated.

    Axes are permuted and flipped, a cropped map is padded with background, and an empty margin is cut off. Where the
    position in the patient is not known for both (pictures, files that do not give their orientation), the voxels are
    taken in their stored order if the sizes agree. A mask of a photograph that is stored rotated is rotated with it
    (`upright.meet`).

    Args:
        labels: The label map, ``(1, D, H, W)``.
        image: The image it belongs to.

    Returns:
        The label map on the image's grid; its findings say what was done or assumed.

    Raises:
        BadInputError: The map has several channels, lies on another grid, has labelled voxels outside the image, or may
            lie either way round. The message names both files.
    """
    if labels.channels != 1:
        raise BadInputError(
            f"{_name(labels)} has {labels.channels} channels and a label map has one; join the classes into one map."
        )
    labels = meet(labels, image)
    if not (labels.physical and image.physical):
        return _as_stored(labels, image)
    placement = relate(labels.geometry, image.geometry)
    if placement.relation == "same":
        return replace(labels, geometry=image.geometry)
    if not (_oriented(labels) and _oriented(image)):
        return _without_orientation(labels, image)
    if placement.relation == "other":
        raise BadInputError(_elsewhere(labels, image, placement))
    placed = _placed(labels, image.geometry, placement, image.name)
    if placement.relation == "reordered":
        return placed
    covered, whole = _size(labels.geometry), _size(image.geometry)
    text = f"{_name(labels)} ({covered} voxels) was placed on the grid of {image.name} ({whole})"
    size = placement.change.forward_geometry(labels.geometry).shape
    if not _one_holds_the_other(image.geometry.shape, size, placement.shift):
        text += ", but is neither a part of it nor larger all round: check that they are of one patient."
        return placed.with_findings(Finding("labels_placed", text))
    return placed.with_findings(Finding("labels_placed", f"{text}; the rest is background.", "info"))


def join_labels(first: Image, second: Image) -> tuple[Image, Image]:
    """Put two label maps of one image on the smallest grid that holds both.

    Like `place_labels`, but each map may reach beyond the other (two crops of one image).

    Args:
        first: A label map, ``(1, D, H, W)``.
        second: Another one, which gives the order and direction of the axes.

    Returns:
        Both maps, on one grid; a finding of the first says if they share little of it.

    Raises:
        BadInputError: The maps lie on different grids, or so far apart that no image holds both.
    """
    first, second = meet(first, second), meet(second, first)
    if not (first.physical and second.physical and _oriented(first) and _oriented(second)):
        return place_labels(first, second), second
    placement = relate(first.geometry, second.geometry)
    if placement.relation != "shifted":
        return place_labels(first, second), second
    size = placement.change.forward_geometry(first.geometry).shape
    low = [min(0, start) for start in placement.shift]
    high = [max(n, s + m) for n, s, m in zip(second.geometry.shape, placement.shift, size, strict=True)]
    shape = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    apart = _hardly_shared(first, second, size, placement.shift)
    first = first if apart is None else first.with_findings(apart)
    if np.prod(shape, dtype=float) > max(_MOST_JOINED, 4 * first.array.size, 4 * second.array.size):
        raise BadInputError(
            f"{_name(first)} and {_name(second)} lie too far apart to be of one image (it would take {_times(shape)} "
            "voxels to hold both); compare label maps of one image."
        )
    origin = second.geometry.affine @ np.array([*low, 1.0])
    joint = replace(second.geometry, shape=shape, origin=(float(origin[0]), float(origin[1]), float(origin[2])))
    both = []
    for labels in (first, second):
        onto = relate(labels.geometry, joint)
        both.append(replace(labels, geometry=joint) if onto.relation == "same" else _placed(labels, joint, onto, ""))
    return both[0], both[1]


def describe_grid(geometry: Geometry) -> str:
    """Describe a grid in words.

    Args:
        geometry: The grid.

    Returns:
        Its size, spacing and origin.
    """
    spacing = "x".join(f"{value:.4g}" for value in geometry.spacing)
    origin = ", ".join(f"{value:.4g}" for value in geometry.origin)
    return f"{_size(geometry)} voxels of {spacing} mm from ({origin})"


# -- inside ---------------------------------------------------------------------------------------------------------


def _turned(grid: Geometry, target: Geometry, axes: Shape3) -> Reorientation:
    """The axes of ``grid`` in this order, each in the direction of the target's axis at its position."""
    along = np.einsum("ra,ra->a", np.asarray(grid.direction)[:, list(axes)], np.asarray(target.direction))
    # an axis of one voxel in both has no direction that matters
    flat = [grid.shape[axis] == 1 and target.shape[n] == 1 for n, axis in enumerate(axes)]
    flips = [bool(cosine < 0) and not single for cosine, single in zip(along, flat, strict=True)]
    return Reorientation(axes, (flips[0], flips[1], flips[2]))


def _apart(grid: Geometry, target: Geometry, shift: Shape3) -> float:
    """mm between the corner voxels of ``grid`` and the voxels of ``target`` that they are taken for.

    The thickness of a single voxel counts where the other grid has more of them (a slice of a volume), not between two
    2D images, whose thickness is often a guess.
    """
    reach = [max(n - 1, 1 if m > 1 else 0) for n, m in zip(grid.shape, target.shape, strict=True)]
    corners = np.array([[d, h, w, 1.0] for d in (0, 1) for h in (0, 1) for w in (0, 1)]) * [*reach, 1.0]
    taken_for = corners + np.array([*shift, 0.0])
    difference = corners @ grid.affine.T - taken_for @ target.affine.T
    return float(np.linalg.norm(difference[:, :3], axis=1).max())


def _smallest_edge(*grids: Geometry) -> float:
    """mm, over the axes that have more than one voxel, where there are any."""
    edges = [edge for grid in grids for edge, n in zip(grid.spacing, grid.shape, strict=True) if n > 1]
    return min(edges or [edge for grid in grids for edge in grid.spacing])


def _placed(labels: Image, target: Geometry, placement: Placement, name: str) -> Image:
    turned = placement.change.forward(labels.array)
    if turned.shape[1:] == target.shape and placement.shift == (0, 0, 0):
        return replace(labels, array=turned, geometry=target)
    inner, outer = [], []
    for start, length, size in zip(placement.shift, turned.shape[1:], target.shape, strict=True):
        low, high = min(max(start, 0), size), max(min(start + length, size), 0)
        outer.append(slice(low, max(low, high)))
        inner.append(slice(low - start, max(low, high) - start))
    kept = turned[:, *inner]
    outside = int(np.count_nonzero(turned)) - int(np.count_nonzero(kept))
    if outside or kept.size == 0:
        where = ", ".join(str(start) for start in placement.shift)
        what = f"marks {outside:,} voxels" if outside else "lies"
        raise BadInputError(
            f"{_name(labels)} {what} outside {name} (it begins at voxel ({where}) of {_times(target.shape)}); "
            "give the label map of this image, or cut off what lies outside."
        )
    array = np.zeros((1, *target.shape), dtype=labels.array.dtype)
    array[:, *outer] = kept
    return replace(labels, array=array, geometry=target)


def _one_holds_the_other(shape: Shape3, size: Shape3, shift: Shape3) -> bool:
    """Whether a grid of ``size`` that begins at ``shift`` lies within one of ``shape``, or the other way round."""
    steps = list(zip(shape, size, shift, strict=True))
    return all(start >= 0 and start + m <= n for n, m, start in steps) or all(
        start <= 0 and n <= start + m for n, m, start in steps
    )


def _hardly_shared(first: Image, second: Image, size: Shape3, shift: Shape3) -> Finding | None:
    """Two maps of which neither is a crop of the other: an origin with a wrong sign (RAS taken for LPS) looks so."""
    steps = zip(second.geometry.shape, shift, size, strict=True)
    shared = float(np.prod([max(0, min(n, start + m) - max(0, start)) for n, start, m in steps]))
    share = shared / min(first.array.size, second.array.size)
    if share >= _LITTLE_SHARED:
        return None
    one, other = _name(first), _name(second)
    names = f"Both label maps {one}" if one == other else f"{one} and {other}"
    text = (
        f"{names} share {share:.0%} of their extent: they are compared where their headers say that they lie; check "
        "their origins."
    )
    return Finding("labels_placed", text)


def _as_stored(labels: Image, image: Image) -> Image:
    """Place pixel for pixel: at least one of the two has no position in the patient."""
    if labels.geometry.shape != image.geometry.shape:
        raise BadInputError(
            f"{_name(labels)} lies on another grid ({_size(labels.geometry)} voxels) than {image.name} "
            f"({_size(image.geometry)}); draw the labels on the same grid as the image."
        )
    placed = replace(labels, geometry=image.geometry, physical=image.physical)
    if labels.physical == image.physical:
        return placed
    unknown = image.name if labels.physical else _name(labels)
    text = (
        f"{unknown} does not say where it lies in the patient: {_name(labels)} and {image.name} were taken to fit "
        "voxel by voxel, because their sizes are the same."
    )
    return placed.with_findings(Finding("grid_not_comparable", text))


def _without_orientation(labels: Image, image: Image) -> Image:
    """Place by stored order and spacing, because one file does not give its orientation."""
    shape, tolerance = image.geometry.shape, TOLERANCE * _smallest_edge(image.geometry)
    steps = zip(labels.geometry.spacing, image.geometry.spacing, shape, strict=True)
    unknown = image.name if not _oriented(image) else _name(labels)
    if labels.geometry.shape != shape or any(abs(a - b) * (n - 1) > tolerance for a, b, n in steps):
        raise BadInputError(
            f"{unknown} does not say its orientation and {_name(labels)} lies on another grid "
            f"({describe_grid(labels.geometry)}) than {image.name} ({describe_grid(image.geometry)}); resample it onto "
            "that image first."
        )
    text = (
        f"{unknown} does not say its orientation: {_name(labels)} and {image.name} were taken to fit voxel by voxel "
        "as they are stored, because their sizes and spacings are the same."
    )
    placed = replace(labels, geometry=image.geometry)
    return placed.with_findings(Finding("grid_not_comparable", text))


def _name(labels: Image) -> str:
    return labels.name if labels.source is not None else "the label map"


def _oriented(image: Image) -> bool:
    return bool(image.meta.get("orientation_known", True))


def _elsewhere(labels: Image, image: Image, placement: Placement) -> str:
    return (
        f"{_name(labels)} lies on another grid ({describe_grid(labels.geometry)}) than {image.name} "
        f"({describe_grid(image.geometry)}): its voxels are up to {placement.apart:.3g} mm away from the image's; "
        "resample it onto that image first."
    )


def _size(geometry: Geometry) -> str:
    return _times(geometry.shape)


def _times(shape: Shape3) -> str:
    return "x".join(str(value) for value in shape)
