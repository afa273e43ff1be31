"""Several images in one source: series of a folder, frames over time. Which there are, and the one that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding


@dataclass(frozen=True)
class Choice:
    """What ``read_image`` takes to read one of several images: ``series`` (DICOM), ``frame`` (from 1), or both."""

    title: str
    series: str | None = None
    frame: int | None = None


class SeveralImagesError(BadInputError):
    """A source holds several images, and it was not said which is wanted; ``choices`` are all of them, in order."""

    def __init__(self, sentence: str, choices: Sequence[Choice]) -> None:
        super().__init__(sentence)
        self.choices = tuple(choices)


def frames_to_choose(count: int, series: str | None = None) -> list[Choice]:
    """The frames 1 to ``count`` as choices."""
    return [Choice(f"frame {number} of {count}", series, number) for number in range(1, count + 1)]


def which_frame(frame: int, count: int, name: str) -> int:
    """The index (from 0) of ``frame`` (from 1) among ``count``; BadInputError where there is none of that number."""
    if 1 <= frame <= count:
        return frame - 1
    held = "one image, not several frames; leave the frame out" if count == 1 else f"frames 1 to {count}; give one"
    raise BadInputError(f"There is no frame {frame} in {name}: it holds {held}.")


def frame_chosen(frame: int, count: int, name: str, mark: str = "") -> tuple[Finding, ...]:
    """What stands in a result's JSON of the frame it was made from; ``mark`` tells the frame from others (its time)."""
    if count == 1:
        return ()
    told = f" ({mark})" if mark else ""
    return (Finding("slices_chosen", f"{name}: frame {frame} of {count}{told} is read.", "info"),)
