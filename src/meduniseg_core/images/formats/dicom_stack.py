"""DICOM frames as a stack: their order, the grid they make, or the reason why they make none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding, orientation_unknown
from meduniseg_core.images.formats.dicom_slices import Slice
from meduniseg_core.images.geometry import Geometry

UNEVEN_TOLERANCE = 0.05
"""How far a slice may lie from its place in an even stack, as a fraction of the slice distance."""


def is_placed(slices: Sequence[Slice]) -> bool:
    """Say whether frames have positions, in space or along the scanner's own axis.

    Args:
        slices: The frames.

    Returns:
        True where every frame has one; a location along the axis counts for several frames only.
    """
    if not slices or any(item.position is None for item in slices):
        return len(slices) > 1 and all(item.location is not None for item in slices)
    return True


def stack_geometry(slices: Sequence[Slice], name: str) -> tuple[list[int], Geometry, tuple[Finding, ...]]:
    """Sort slices along their normal and find the grid that they make.

    d runs from the first slice to the last, so a tilted gantry gives a grid whose axes are not perpendicular. Slices
    without an orientation are taken to be axial, which a finding says; frames of one file without any position keep
    their order.

    Args:
        slices: The frames of one image.
        name: The source's name, for messages.

    Returns:
        The order of the slices (indices), the grid, and findings.

    Raises:
        BadInputError: The slices make no grid: some are missing, uneven, at one place, or without a position.
    """
    first = slices[0]
    shape = (len(slices), first.rows, first.columns)
    height, width = _median([item.spacing for item in slices if item.spacing is not None]) or (1.0, 1.0)
    in_plane = height, width
    if first.orientation is not None and all(item.position is not None for item in slices):
        order, affine = _oriented(slices, in_plane, name)
        why = "it gives its frames' places in the ultrasound volume only"
        found = (orientation_unknown(name, why),) if first.in_volume else ()
        return order, Geometry.from_affine(affine, shape), (*found, *_several_systems(slices, name))
    depth = (first.thickness or 1.0) if first.spacing else 1.0
    if len(slices) == 1:
        return [0], Geometry(shape, (depth, *in_plane)), ()
    if is_placed(slices):
        order, step = _along_one_axis(slices, name)
        return order, Geometry(shape, (step, *in_plane)), (_unoriented(name, "axial slices are assumed"),)
    if len({item.path for item in slices}) == 1 and any(item.position is not None for item in slices):
        lost = next(item for item in slices if item.position is None)
        raise BadInputError(
            f"{name} says of some frames where they lie and not of others ({lost.name}); export it again."
        )
    if len({item.path for item in slices}) == 1 and _is_unplaced_volume(first):
        unknown = orientation_unknown(name, f"its frames are taken as slices {depth:.4g} mm apart")
        return list(range(len(slices))), Geometry(shape, (depth, *in_plane)), (unknown,)
    if len({item.path for item in slices}) == 1:
        return list(range(len(slices))), Geometry(shape, (depth, *in_plane)), _frames_findings(slices, name)
    lost = next(item for item in slices if item.position is None)
    raise BadInputError(
        f"{name} has {len(slices)} images of one series, of which {lost.name} has no position in space; pass single "
        "files of them."
    )


def _is_unplaced_volume(first: Slice) -> bool:
    """Whether frames without a place are slices all the same: at a distance that the file gives, and not over time."""
    return not first.over_time and first.thickness is not None and first.spacing is not None


def _several_systems(slices: Sequence[Slice], name: str) -> tuple[Finding, ...]:
    """Positions count in a coordinate system each; anonymisers exist that give every slice one of its own."""
    systems = {item.reference_uid for item in slices} - {""}
    if len(systems) < 2:
        return ()
    text = (
        f"{name}: its slices name {len(systems)} coordinate systems (Frame of Reference UID), and their positions are "
        "taken as if it were one: look whether they fit together."
    )
    return (Finding("places_differ", text),)


def _frames_findings(slices: Sequence[Slice], name: str) -> tuple[Finding, ...]:
    first = slices[0]
    kind = "frames over time" if first.over_time else "frames without a place"
    text = f"{name} holds {len(slices)} {kind}; they are read as a stack in their order, which is not a volume."
    return (Finding("frames_as_stack", text),)


def _unoriented(name: str, assumed: str) -> Finding:
    return Finding(
        "orientation_unknown",
        f"{name} does not say how its slices lie in the patient; {assumed}, left and right may be swapped.",
    )


def _oriented(slices: Sequence[Slice], in_plane: tuple[float, float], name: str) -> tuple[list[int], np.ndarray]:
    cosines = _median([item.orientation for item in slices if item.orientation is not None])
    assert cosines is not None
    along_w, along_h = (np.array(part) / np.linalg.norm(part) for part in (cosines[:3], cosines[3:]))
    normal = np.cross(along_w, along_h)
    positions = np.array([item.position for item in slices])
    heights = positions @ normal
    order = [int(index) for index in np.argsort(heights, kind="stable")]
    positions, heights = positions[order], heights[order]
    if len(slices) > 1:
        step = (positions[-1] - positions[0]) / (len(slices) - 1)
        _check_even(positions, heights, [slices[index] for index in order], name)
    else:
        step = normal * (slices[0].thickness or 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, along_h * in_plane[0], along_w * in_plane[1]
    affine[:3, 3] = positions[0]
    return order, affine


def _along_one_axis(slices: Sequence[Slice], name: str) -> tuple[list[int], float]:
    """Order and distance of slices that have no orientation: along the axis of their positions, or their locations."""
    if all(item.position is not None for item in slices):
        positions = np.array([item.position for item in slices])
        line = positions[:, int(np.argmax(np.ptp(positions, axis=0)))]
    else:
        line = np.array([item.location for item in slices], dtype=np.float64)
    order = [int(index) for index in np.argsort(line, kind="stable")]
    heights = line[order]
    places = np.stack([np.zeros_like(heights), np.zeros_like(heights), heights], axis=1)
    _check_even(places, heights, [slices[index] for index in order], name)
    return order, float((heights[-1] - heights[0]) / (len(slices) - 1))


def _median(values: Sequence[tuple[float, ...]]) -> tuple[float, ...] | None:
    """Per component: slices of one series differ by the noise of their headers."""
    return tuple(float(value) for value in np.median(np.array(values), axis=0)) if values else None


def _check_even(positions: np.ndarray, heights: np.ndarray, slices: Sequence[Slice], name: str) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    same = int(np.argmin(gaps))
    if gaps[same] < max(1e-3, 0.1 * usual):
        raise BadInputError(
            f"{name} has several slices at one place ({slices[same].name} and {slices[same + 1].name}: time points or "
            f"copies); {_ONE_FILE if slices[same].frame is not None else _ONE_FOLDER}."
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.abs(positions - expected).max())
    if off <= UNEVEN_TOLERANCE * float(np.linalg.norm(step)):
        return
    if float(np.abs(heights - np.linspace(heights[0], heights[-1], len(heights))).max()) <= UNEVEN_TOLERANCE * usual:
        aside = slices[int(np.argmax(np.linalg.norm(positions - expected, axis=1)))]
        raise BadInputError(
            f"{name} has slices at even distances that do not lie above each other ({aside.name} lies {off:.3g} mm "
            "beside its place); export the series again or resample it first."
        )
    wide = int(np.argmax(gaps))
    between = f"{gaps[wide]:.4g} mm lie between {slices[wide].name} and {slices[wide + 1].name}"
    steps = _number_steps([item.instance for item in slices])
    missing = _missing(gaps, steps)
    if missing:
        raise BadInputError(
            f"{name} misses about {missing} slice(s): {between}, elsewhere {gaps.min():.4g} mm; export the complete "
            "series."
        )
    distances = _two_distances(gaps)
    if distances is not None:
        near, far = distances
        unbroken = "" if steps is None else ", its slices are numbered without a gap"
        raise BadInputError(
            f"{name} has two slice distances ({near:.4g} mm in one part, {far:.4g} mm in another{unbroken}); export it "
            "with one distance or resample it first."
        )
    raise BadInputError(
        f"{name} has unevenly spaced slices ({gaps.min():.4g} to {gaps.max():.4g} mm apart, up to {off:.3g} mm "
        "out of place); export it with even spacing or resample it first."
    )


_ONE_FOLDER = "put one volume's files into a folder of their own"
_ONE_FILE = "export one volume alone"
_ALIKE = 0.1  # relative difference of gaps that count as one distance


def _missing(gaps: np.ndarray, steps: np.ndarray | None) -> int:
    """How many slices are lost between others; 0 where the distances have another cause.

    The scanner's numbers decide where they run along the stack (``steps``): they jump where slices are lost. Without
    them a lost slice is a single gap of a whole multiple, while a second distance makes a run of equal gaps.
    """
    near = float(np.percentile(gaps, 10)) if len(gaps) > 10 else float(gaps.min())
    multiples = np.maximum(np.rint(gaps / near), 1)
    if np.any(np.abs(gaps / near - multiples) > _ALIKE * multiples):
        return 0
    if steps is not None:
        agree = steps // steps.min()
        return int(np.sum(agree - 1)) if np.array_equal(agree, multiples) else 0
    wide = multiples > 1
    run = bool(np.any(wide[1:] & wide[:-1] & (multiples[1:] == multiples[:-1])))
    return 0 if run else int(np.sum(multiples - 1))


def _number_steps(numbers: Sequence[int | None]) -> np.ndarray | None:
    """How far the instance numbers step from slice to slice; None where they do not run along the stack."""
    if any(number is None for number in numbers):
        return None
    steps = np.diff(np.array(numbers, dtype=np.float64))
    if np.all(steps > 0) or np.all(steps < 0):
        return np.abs(steps)
    return None


def _two_distances(gaps: np.ndarray) -> tuple[float, float] | None:
    middle = (gaps.min() + gaps.max()) / 2
    near, far = gaps[gaps <= middle], gaps[gaps > middle]
    if len(near) < 2 or len(far) < 2 or any(np.ptp(part) > _ALIKE * part.mean() for part in (near, far)):
        return None
    changes = int(np.count_nonzero(np.diff(gaps > middle)))
    return (float(near.mean()), float(far.mean())) if changes <= 2 else None
