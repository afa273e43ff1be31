"""Findings: what a reader or a check noticed about an image that its user must know.

They are typed, so that every front end can show them. Readers put findings on the image (`Image.findings`); checks of
an image against a task add theirs (`meduniseg_core.inference`). They are reported as messages and stand under
"warnings" in the JSON beside a result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from meduniseg_core.events import EventSink, Message

_SQUARE = 1.02  # sides of a pixel may differ by this factor: resolutions are often rounded to whole numbers
_TO_BE_SEGMENTED = ", or give that where it is segmented (segment --assume-orientation)"

FindingCode = Literal[
    "orientation_unknown",  # the file does not say left from right
    "orientation_assumed",  # given by the user, where the file does not say
    "orientation_applied",  # EXIF: shown and segmented upright, labels on the file's own pixel grid
    "places_differ",  # a header that gives its place in space, or its voxel sizes, twice and differently
    "more_than_said",  # a file holds far more voxels than its header says, which may be wrong
    "header_mended",  # a header field that other readers mend without doubt
    "spacing_assumed",  # taken from another field than usual (detector, region calibration), or nominal
    "pixels_not_square",  # the file says so, where sizes in mm are missing or not used
    "spacing_unusual",  # far from what the task's images have
    "labels_renumbered",  # a label map whose ids were not unique
    "sheared_grid",
    "channels_converted",
    "intensity_scaled",  # stored values were rescaled to be read
    "modality_mismatch",  # the DICOM header names another modality than the task's
    "intensity_mismatch",  # the values do not look like the modality
    "intensity_window",  # clipped to the window that the task expects
    "nodata_filled",  # voxels without a measurement, which a value nothing else has marks
    "field_of_view",  # shows far more or less than the training images
    "channel_pair_doubtful",  # files taken as channels of one case that look like two cases
    "slices_chosen",  # other objects, series or frames of the source were left out
    "axes_doubtful",  # an array whose last axis may be colours and is read as width
    "frames_as_stack",  # frames without a place in space (over time), read as a stack
    "pet_suv",  # PET values were turned into SUV (or are SUV)
    "pet_not_suv",  # PET values could not be turned into SUV, and stay
    "labels_empty",  # a correction in which nothing is labelled
    "labels_placed",  # a label map of another extent or order was put on its image's grid, exactly
    "labels_overlap",  # segments that overlap, of which a voxel can have one
    "labels_of_other_series",  # labels that were drawn on another series, or do not say on which
    "labels_left_out",  # parts of a label file that mark no voxels: points, open contours
    "labels_swapped",  # a label of one map lies where the other map has another one, or none
    "labels_matched",  # ids (or names) of two label maps that differ were taken for one class
    "grid_not_comparable",  # a place in the patient is not known for both: taken to fit voxel by voxel
    "opened_elsewhere",  # a layer of the viewer that another reader opened, which left out what the file says
    "refused",  # a task does not take the image, and why: what a run would end with
    "class_not_said",  # the class of the image, and why
    "result_kept",  # a former result was corrected by hand, and is not replaced
    "slice_by_slice",  # a volume for a task of 2D images
    "precision_raised",  # logits were not finite in half precision, and the image was segmented once more in fp32
    "pieces_left_out",  # a class of which the model keeps one connected piece had several
    "implausible_result",  # a class far outside the training's sizes, intensities or positions
]


@dataclass(frozen=True)
class Finding:
    """One thing that the user must know.

    ``text`` is one sentence that names the file. ``level`` is "info" for what was handled without doubt, "warning" for
    what can make the result wrong. ``scale`` belongs to "field_of_view": the scale that would fit, where it can be told
    (see ``Predictor.segment``). A command-line option that solves the problem stands in brackets, as in (--scale 4),
    with its command where others show the finding, too, as in (segment --scale 4); other front ends have fields
    instead and drop the brackets (`without_options`).
    """

    code: FindingCode
    text: str
    level: Literal["info", "warning"] = "warning"
    scale: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the finding as it stands in a JSON file.

        Returns:
            ``{"code", "level", "text"}``.
        """
        fields = asdict(self)
        return {"code": fields["code"], "level": fields["level"], "text": fields["text"]}


def orientation_unknown(name: str, why: str) -> Finding:
    """Make the finding that a file does not say which side is left.

    Args:
        name: The file's name.
        why: The reason, as half a sentence.

    Returns:
        A warning.
    """
    return Finding(
        "orientation_unknown",
        f"{name} does not say how it lies in the patient ({why}), so left and right may be swapped: check a side in "
        f"the viewer, and save it with its orientation{_TO_BE_SEGMENTED}.",
    )


def of_label_map(finding: Finding) -> Finding:
    """Adapt what a reader says of an image to a label map, which nobody segments.

    Args:
        finding: The reader's finding.

    Returns:
        The finding without the remedy that only an image has.
    """
    return replace(finding, text=finding.text.replace(_TO_BE_SEGMENTED, ""))


def header_mended(name: str, what: Sequence[str]) -> Finding:
    """Make the finding that a faulty header was corrected while it was read.

    Args:
        name: The file's name.
        what: The faults, half a sentence each.

    Returns:
        A finding of level "info".
    """
    return Finding("header_mended", f"{name} has a faulty header that was corrected: {'; '.join(what)}.", "info")


def pixels_not_square(name: str, ratio: float) -> Finding | None:
    """Make the finding that pixels are not square where the network takes them as if they were.

    Args:
        name: The file's name.
        ratio: The height of a pixel, divided by its width.

    Returns:
        A warning; None where pixels are square but for rounding, or the ratio is no positive, finite number.
    """
    if not 0 < ratio < math.inf or max(ratio, 1 / ratio) <= _SQUARE:
        return None
    how = f"{ratio:.3g} times as high as wide" if ratio > 1 else f"{1 / ratio:.3g} times as wide as high"
    return Finding(
        "pixels_not_square",
        f"The pixels of {name} are {how}, and they are segmented as if they were square, with everything out of shape: "
        "save it with square pixels (scaled to its true shape) if the result is wrong.",
    )


def without_options(text: str) -> str:
    """Drop the command-line options from a sentence, for a window that has fields for them.

    Args:
        text: A finding's or an error's sentence, with options in brackets.

    Returns:
        The sentence without those brackets, and without "with --frame 2 (Python: frame=...)".
    """
    return re.sub(r" \((?:segment )?--[^)]*\)| with --[^(;]*\(Python: [^)]*\)", "", text)


def report(findings: Iterable[Finding], events: EventSink) -> None:
    """Send every finding as a message.

    Args:
        findings: The findings, in order.
        events: Receives one `Message` each.
    """
    for finding in findings:
        events(Message(finding.level, finding.text))


def merge(*groups: Iterable[Finding]) -> tuple[Finding, ...]:
    """Join groups of findings.

    Args:
        *groups: Findings from different places, such as a reader and the checks of a task.

    Returns:
        All of them in order, each once.
    """
    return tuple(dict.fromkeys(finding for group in groups for finding in group))
