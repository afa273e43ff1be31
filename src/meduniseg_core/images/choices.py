"""Several images in one source (series in a folder, frames over time): which there are, and how one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding

_MOST_LISTED = 1000


@dataclass(frozen=True)
class Choice:
    """What ``read_image`` needs to read one of several images: ``series`` (DICOM), ``frame`` (from 1), or both.

    ``proposed``: it is most probably the one that is meant.
    """

    title: str
    series: str | None = None
    frame: int | None = None
    proposed: bool = False


class SeveralImagesError(BadInputError):
    """A source holds several images and the caller did not say which one to read. ``choices`` lists all, in order."""

    def __init__(self, sentence: str, choices: Sequence[Choice]) -> None:
        super().__init__(sentence)
        self.choices = tuple(choices)


def choices_of(error: BaseException) -> list[dict[str, Any]]:
    """What an error lets the user choose from, for JSON.

    Args:
        error: Any.

    Returns:
        The fields of its `Choice`s ("proposed" only where it is so); none where it is no :class:`SeveralImagesError`.
    """
    choices = error.choices if isinstance(error, SeveralImagesError) else ()
    return [
        {name: value for name, value in asdict(choice).items() if name != "proposed" or value} for choice in choices
    ]


def frames_to_choose(count: int, series: str | None = None) -> list[Choice]:
    """List the frames of one source as choices.

    Args:
        count: How many frames there are.
        series: The DICOM series they belong to, where the source holds several.

    Returns:
        Frames 1 to ``count``, but at most a thousand: a header can claim any number.
    """
    return [Choice(f"frame {number} of {count}", series, number) for number in range(1, min(count, _MOST_LISTED) + 1)]


def refuse_time_series(count: int, name: str) -> None:
    """Refuse several time points where none was chosen: they are not the channels of one image.

    Args:
        count: How many there are.
        name: The file's name, for the message.

    Raises:
        SeveralImagesError: There is more than one.
    """
    if count > 1:
        raise SeveralImagesError(
            f"{name} is a time series; pick a frame with --frame 1 to {count} (Python: frame=...), or mark the frames "
            "as slices.",
            frames_to_choose(count),
        )


def which_frame(frame: int, count: int, name: str) -> int:
    """Turn a frame's number into its index.

    Args:
        frame: The number, from 1.
        count: How many frames there are.
        name: The file's name, for the message.

    Returns:
        The index, from 0.

    Raises:
        BadInputError: There is no frame of that number.
    """
    if 1 <= frame <= count:
        return frame - 1
    held = "one image, not several frames; leave the frame out" if count == 1 else f"frames 1 to {count}; give one"
    raise BadInputError(f"There is no frame {frame} in {name}: it holds {held}.")


def take_frame(
    array: np.ndarray, frame: int | None, name: str, *, colour: bool = False
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Take one frame along the first axis.

    Args:
        array: Frames (or channels) along the first axis.
        frame: The frame's number, from 1; None to keep them all.
        name: The file's name, for messages.
        colour: The first axis is red, green and blue, so the array is one image.

    Returns:
        The frame, with the first axis kept, and the findings about the choice.

    Raises:
        BadInputError: There is no frame of that number.
    """
    if frame is None:
        return array, ()
    count = 1 if colour else array.shape[0]
    first = which_frame(frame, count, name)
    # a copy: a view would keep all frames in memory
    return array if count == 1 else array[first : first + 1].copy(), frame_chosen(frame, count, name)


def frame_chosen(frame: int, count: int, name: str, mark: str = "") -> tuple[Finding, ...]:
    """Make the finding that says which frame was read.

    Args:
        frame: The frame's number, from 1.
        count: How many frames there are.
        name: The file's name.
        mark: What tells the frame from the others, such as its time.

    Returns:
        One finding; none where there was no choice.
    """
    if count == 1:
        return ()
    told = f" ({mark})" if mark else ""
    return (Finding("slices_chosen", f"{name}: frame {frame} of {count}{told} is read.", "info"),)
