"""Checks whether an image is what a task expects, before anything is computed; every front end uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.checks.field_of_view import field_of_view, scaled_plan
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Finding, Image
from meduniseg_core.images.findings import merge, orientation_unknown, pixels_not_square
from meduniseg_core.images.hounsfield_scale import hounsfield_scale
from meduniseg_core.images.modality_check import (
    COLOUR_MODALITIES,
    CT_WINDOWS,
    HU_OFFSET,
    has_air_and_tissue,
    is_grey,
    is_picture,
    is_stored_higher,
    is_surely_ct,
    looks_like_ct,
    modalities_told,
    not_hounsfield,
)
from meduniseg_core.images.modality_guess import photograph_doubt
from meduniseg_core.images.nodata import NoData, filled, nodata_of
from meduniseg_core.images.oriented import is_oriented, oriented_as_said
from meduniseg_core.preprocessing import TaskPlan, is_colour
from meduniseg_core.preprocessing.channel_pairs import doubtful_channels
from meduniseg_core.preprocessing.planning import tells_left_from_right
from meduniseg_core.preprocessing.scheme_pipeline import working_geometry
from meduniseg_core.preprocessing.working_size import check_working_size, unusual_spacing

_HOUNSFIELD = "Hounsfield units"
_SHOWS_AIR = -700.0  # HU: a window that begins below shows air and lung
_BY_ITS_OWN_VALUES = ("zscore", "zscore_nonzero", "rescale01")
_SAMPLE = 200_000  # voxels that are looked at for where most values lie
_MOST = (0.1, 99.9)  # percentiles
_FAR, _WIDE = 100.0, 3.0  # times the range of most values: an outlier's distance, and the spread it gives to all
_NEVER_NEGATIVE = ("mri", "pet", "ultrasound", "xray")


def check_image(image: Image, plan: TaskPlan, scale: float = 1.0) -> tuple[Finding, ...]:
    """Look for reasons why a task may segment an image wrongly.

    Args:
        image: (C, D, H, W).
        plan: the task's plan.
        scale: the scale that the user gave (see ``Predictor.segment``).

    Returns:
        The findings; empty if nothing is wrong.
    """
    marks = _nodata_marks(image, [plan])
    found = list(_told_otherwise(image, plan))
    found += _nodata(image, plan, marks)
    found += _blank(image, plan)
    found += _outliers(_filled(image, marks), plan)
    found += _intensities(_filled(image, marks), plan)
    pair = doubtful_channels(image, plan.channels)
    if pair is not None:
        found.append(pair)
    if image.physical:
        found += unusual_spacing(working_geometry(image, plan), plan, image.name)
        found += _pixel_shape(image, plan)
        if not image.is_2d and not is_oriented(image) and all(f.code != "orientation_unknown" for f in image.findings):
            found.append(orientation_unknown(image.name, "its reader found no orientation"))
    found += field_of_view(image, plan, scale)
    return tuple(found)


def look_before(
    image: Image, plan: TaskPlan, scale: float = 1.0, orientation: str | None = None
) -> tuple[Finding, ...]:
    """All that can be said before :meth:`Predictor.segment`: the reader's findings, those of the checks, and any
    refusal.

    Args:
        image: (C, D, H, W), as it was read.
        plan: the task's plan, not scaled.
        scale: how many times more than the training images an image without mm shows along a side; ignored for tasks
            that go by mm.
        orientation: orientation of a volume whose file does not give it, "RAS" for example.

    Returns:
        The findings; the reason of a refusal comes first.

    Raises:
        UsageError: the scale or the orientation is not valid.
    """
    image = oriented_as_said(image, orientation)
    if plan.longest_side is not None:
        plan = scaled_plan(plan, scale)
    found = merge(image.findings, check_image(image, plan, scale))
    try:
        _refuse_unknown_sides(image, plan)
    except BadInputError as error:  # says more than the milder finding
        found = tuple(finding for finding in found if finding.code != "orientation_unknown")
        found = (Finding("orientation_unknown", str(error)), *found)
    try:
        _refuse_what_cannot_be(image, plan)
    except BadInputError as error:
        found = (Finding("refused", str(error)), *found)
    return found


def refuse_image(image: Image, plan: TaskPlan) -> None:
    """Refuse an image that the task would certainly get wrong.

    Args:
        image: (C, D, H, W).
        plan: the task's plan.

    Raises:
        BadInputError: the voxel size is impossible, the image holds frames over time (ultrasound, for example) and the
            task takes volumes, or left and right are unknown and the task's classes differ by side.
    """
    _refuse_what_cannot_be(image, plan)
    _refuse_unknown_sides(image, plan)


def _refuse_what_cannot_be(image: Image, plan: TaskPlan) -> None:
    if plan.dimension == 3 and image.meta.get("frames_over_time"):
        raise BadInputError(
            f"{image.name} holds {image.geometry.shape[0]} frames over time and task {plan.task} takes volumes; use a "
            "task of 2D images, which segments frame by frame."
        )
    if image.physical:
        check_working_size(working_geometry(image, plan), plan, image.name)


def _refuse_unknown_sides(image: Image, plan: TaskPlan) -> None:
    if not image.physical:
        return
    # a task whose training images did not say it either has learned from them as they lie
    learned_so = plan.statistics is not None and not plan.statistics.oriented
    if not image.is_2d and not is_oriented(image) and tells_left_from_right(plan) and not learned_so:
        raise BadInputError(
            f"{image.name} does not say which side is left, and task {plan.task} has classes that differ by side; give "
            "its orientation (segment --assume-orientation RAS, say), or store it in the file (NIfTI: an sform code)."
        )


def without_nodata(image: Image, plans: Sequence[TaskPlan]) -> Image:
    """Give voxels without a measurement the value of air or of the background; :func:`check_image` reports it.

    Args:
        image: (C, D, H, W).
        plans: the plans of the tasks that the image is for; they say which channels are CT.

    Returns:
        The filled image; ``image`` itself if no voxel is marked.
    """
    return _filled(image, _nodata_marks(image, plans))


def in_the_tasks_window(image: Image, plan: TaskPlan) -> Image:
    """Clip a CT for a task trained on pictures of a window; :func:`check_image` reports it.

    A CT of another scale than Hounsfield units is brought to them first, where its histogram tells them.

    Args:
        image: (C, D, H, W).
        plan: the task's plan.

    Returns:
        The clipped image; ``image`` itself if the task needs no window.
    """
    scaled = _in_hounsfield(image, plan)
    return image if scaled is None else image.with_array(np.clip(scaled[0].array, *_window(plan)))


def _told_otherwise(image: Image, plan: TaskPlan) -> Iterator[Finding]:
    """Of several channels (PET with CT) the header is of one, so they are not compared, but for colours."""
    told = modalities_told(image)
    if plan.modality not in MODALITIES or not told or plan.modality in told:
        return
    if len(plan.channels) == 1 or is_colour(plan.channels):
        text = (
            f"{image.name} is {MODALITIES[told[0]].title} by its DICOM header ({image.meta['modality']}), and task "
            f"{plan.task} is for {MODALITIES[plan.modality].title}: check that it is the right task."
        )
        yield Finding("modality_mismatch", text)


def _blank(image: Image, plan: TaskPlan) -> Iterator[Finding]:
    """What shows nothing at all: every channel of a colour image, any of another."""
    flat = [index for index, channel in enumerate(image.array) if channel.size and channel.min() == channel.max()]
    colour = is_colour(plan.channels) or image.channels != len(plan.channels)
    if not flat or (colour and len(flat) < image.channels):
        return
    whose = image.name
    if len(flat) < image.channels:
        whose = f"Channel {flat[0] + 1} of {image.name}"
    value = float(image.array[flat[0]].flat[0])
    yield Finding("intensity_mismatch", f"{whose} has the same value ({value:g}) everywhere: it shows nothing.")


def _outliers(image: Image, plan: TaskPlan) -> Iterator[Finding]:
    """A few values so far beyond all others that an image that is normalised by them shows nothing else."""
    if image.channels != len(plan.channels):
        return
    for index, (channel, kind) in enumerate(zip(image.array, plan.normalisation, strict=True)):
        if kind not in _BY_ITS_OWN_VALUES or channel.dtype.itemsize == 1:
            continue
        flat = channel.reshape(-1)
        low, high = (float(value) for value in np.percentile(flat[:: max(1, flat.size // _SAMPLE) | 1], _MOST))
        least, largest = float(flat.min()), float(flat.max())
        if not high > low or max(largest - high, low - least) < _FAR * (high - low):
            continue
        with np.errstate(over="ignore"):  # of 1e300 the spread is infinite: wide
            spread = float(flat.std(dtype=np.float64))
        if kind != "rescale01" and spread < _WIDE * (high - low):
            continue
        whose = image.name if image.channels == 1 else f"Channel {index + 1} of {image.name}"
        far = largest if largest - high > low - least else least
        yield Finding(
            "intensity_mismatch",
            f"{whose} holds a few values as far out as {far:.4g}, where nearly all lie from {low:.4g} to {high:.4g}: "
            "beside them the rest shows next to nothing; replace them (with the background value, say).",
        )


def _pixel_shape(image: Image, plan: TaskPlan) -> Iterator[Finding]:
    """Pixels that are not square by their size in mm, for a task that scales pixels and does not use that size."""
    if plan.longest_side is None:
        return
    _, high, wide = working_geometry(image, plan).spacing
    known = None if plan.statistics is None else plan.statistics.spacing
    if known is not None and known[1][0] / known[2][1] <= high / wide <= known[1][1] / known[2][0]:
        return  # so were the training images
    finding = pixels_not_square(image.name, high / wide)
    if finding is not None:
        yield finding


def _intensities(image: Image, plan: TaskPlan) -> Iterator[Finding]:
    for text in _colour_faults(image, plan):
        yield Finding("intensity_mismatch", text)
    scaled = _in_hounsfield(image, plan)
    if scaled is not None:
        low, high = _window(plan)
        image, what = scaled
        yield Finding(
            "intensity_window",
            f"Task {plan.task} has learned from pictures of a soft-tissue window, not from {what}: "
            f"{image.name} is clipped to {low:.0f}..{high:.0f} HU for it.",
            "info" if plan.hu_window is not None and what == _HOUNSFIELD else "warning",
        )
    if image.channels != len(plan.channels):
        return  # converted from or to colour, or refused
    for index, (channel, name) in enumerate(zip(image.array, plan.channels, strict=True)):
        whose = image.name if image.channels == 1 else f"Channel {index + 1} ({name}) of {image.name}"
        fault = _channel_fault(channel, index, whose, plan)
        if fault is not None:
            yield Finding("intensity_mismatch", fault)


_MARKS: WeakKeyDictionary[Image, dict[tuple[bool, ...], list[tuple[NoData, ...]]]] = WeakKeyDictionary()
"""What was found in images that are still in use: each task of a run asks again."""


def _nodata_marks(image: Image, plans: Sequence[TaskPlan]) -> list[tuple[NoData, ...]]:
    """The marks of missing measurements in each channel."""
    hounsfield = tuple(_is_ct(image, index, plans) for index in range(image.channels))
    known = _MARKS.setdefault(image, {})
    if hounsfield not in known:
        known[hounsfield] = [nodata_of(*pair) for pair in zip(image.array, hounsfield, strict=True)]
    return known[hounsfield]


def _filled(image: Image, marks: Sequence[tuple[NoData, ...]]) -> Image:
    if not any(marks):
        return image
    return image.with_array(np.stack([filled(*pair) for pair in zip(image.array, marks, strict=True)]))


def _nodata(image: Image, plan: TaskPlan, marks: Sequence[tuple[NoData, ...]]) -> Iterator[Finding]:
    for index, found in enumerate(marks):
        hounsfield = _is_ct(image, index, [plan])
        for mark in found:
            taken = f"air ({mark.fill:.0f} HU)" if hounsfield else f"background ({mark.fill:g})"
            whose = image.name if image.channels == 1 else f"Channel {index + 1} of {image.name}"
            yield Finding(
                "nodata_filled",
                f"{whose} has {mark.value:.0f} in {mark.share:.2%} of its voxels, a value that no measurement has "
                f"(outside the field of view?); they are taken for {taken}.",
                "info" if hounsfield and mark.value < 0 else "warning",
            )


def _is_ct(image: Image, index: int, plans: Sequence[TaskPlan]) -> bool:
    """Whether a channel is CT for one of the tasks."""
    return any(
        plan.normalisation[index] == "ct" or (plan.modality == "ct" and not is_picture(image.array[index]))
        for plan in plans
        if len(plan.channels) == image.channels
    )


def _channel_fault(channel: np.ndarray, index: int, whose: str, plan: TaskPlan) -> str | None:
    figures = plan.figures[index]
    if plan.normalisation[index] == "ct":
        fault = not_hounsfield(channel, None if figures is None else figures.percentile_00_5)
        return None if fault is None else f"{whose} does not look like CT: {fault}."
    if plan.modality == "ct" and is_stored_higher(channel):
        return f"{whose} looks like CT stored {HU_OFFSET:.0f} too high: subtract that, so that air is near -1000 HU."
    if plan.modality == "ct" and not is_picture(channel) and not has_air_and_tissue(channel):
        return (
            f"{whose} does not look like CT: its values are neither Hounsfield units with air near -1000 nor those of "
            f"a picture (0 to 255), as task {plan.task} has learned from."
        )
    if plan.modality in _NEVER_NEGATIVE and is_surely_ct(channel):
        return f"{whose} looks like CT: its values are Hounsfield units."
    return None


def _colour_faults(image: Image, plan: TaskPlan) -> Iterator[str]:
    if is_colour(plan.channels):
        kind = plan.modality if plan.modality in COLOUR_MODALITIES else f"{plan.task}'s"
        if image.channels == 1:
            yield f"{image.name} is grey, and {kind} images are in colour."
        elif image.channels == 3 and is_grey(image):
            yield f"{image.name} has three equal channels, and {kind} images are in colour."
    doubt = photograph_doubt(image, plan.modality, takes_colour=is_colour(plan.channels))
    if doubt is not None:
        yield doubt


def _in_hounsfield(image: Image, plan: TaskPlan) -> tuple[Image, str] | None:
    """A CT in Hounsfield units for a task of pictures, and what it was in words; None where nothing is to be done."""
    if plan.scheme is not None:  # it has learned from images as they are
        return None
    if plan.modality != "ct" or "ct" in plan.normalisation or image.channels != 1:
        return None
    if looks_like_ct(image):
        return image, _HOUNSFIELD
    channel = image.array[0]
    if is_stored_higher(channel):
        array = image.array.astype(np.float32) - np.float32(HU_OFFSET)
        return image.with_array(array), f"values stored {HU_OFFSET:.0f} too high"
    # only of a task whose window is known and narrow is another scale surely not its own
    if plan.hu_window is None or plan.hu_window[0] < _SHOWS_AIR:
        return None
    scale = hounsfield_scale(channel, plan.hu_window)
    if scale is None:
        return None
    what = f"grey levels that by their histogram stand for {scale.low:.0f}..{scale.high:.0f} HU"
    return image.with_array(scale(image.array)), what


def _window(plan: TaskPlan) -> tuple[float, float]:
    """The window (HU) of the pictures that a task was trained on; the soft-tissue window if its plan does not say."""
    return plan.hu_window if plan.hu_window is not None else (CT_WINDOWS[0].low, CT_WINDOWS[0].high)
