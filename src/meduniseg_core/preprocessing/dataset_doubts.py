"""What looks wrong in a data set that can be read: a training would learn from it without a word.

Each kind of doubt is one sentence for the whole data set, which names a few files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.images import Finding, Image
from meduniseg_core.images.modality_check import COLOUR_MODALITIES, is_surely_ct, not_hounsfield
from meduniseg_core.images.modality_guess import photograph_doubt
from meduniseg_core.images.oriented import is_oriented
from meduniseg_core.preprocessing.channel_names import modality_of_channel
from meduniseg_core.preprocessing.channel_pairs import doubtful_channels
from meduniseg_core.preprocessing.fingerprint import ct_channels

_NAMED = 3  # files that a sentence names besides the first
_NEVER_HOUNSFIELD = ("mri", "pet", "ultrasound", "xray")


@dataclass(frozen=True)
class _ValuesOf:
    """What the values of one channel look like: ``fault`` says what is wrong with them, if anything."""

    channel: int
    file: str
    is_ct: bool
    fault: str | None


def image_doubts(image: Image, channels: tuple[str, ...], modality: str | None) -> tuple[Finding, ...]:
    """Look at an image that is to be learned from.

    Args:
        image: ``(C, D, H, W)``.
        channels: The channels' names.
        modality: The modality; None where it is not known.

    Returns:
        What looks wrong in its values: an image that shows nothing, a photograph taken for a modality in grey or for
        another kind, a CT that is not in Hounsfield units, a CT taken for something else, channels that look like two
        patients.
    """
    found = list(_shown(image, channels, modality))
    for doubt in _values(image, channels, modality):
        if doubt.fault is not None:
            text = f"{doubt.file} does not look like CT: {doubt.fault}." if doubt.is_ct else doubt.fault
            found.append(Finding("intensity_mismatch", text))
    return tuple(found)


def _shown(image: Image, channels: tuple[str, ...], modality: str | None) -> Iterator[Finding]:
    """What an image shows to be wrong, whatever its values mean."""
    yield from _blank(image)
    yield from _photograph(image, modality)
    pair = doubtful_channels(image, channels)
    if pair is not None:
        yield pair


def _blank(image: Image) -> Iterator[Finding]:
    """An image that has one value: a failed export, or a mask in its place."""
    if image.array.size and image.array.min() == image.array.max():
        value = float(image.array.flat[0])
        yield Finding(
            "intensity_mismatch", f"{image.name} has the same value ({value:g}) everywhere: it shows nothing."
        )


def _photograph(image: Image, modality: str | None) -> Iterator[Finding]:
    """A photograph in colour of a modality that is grey, or of another kind: the modality is wrong, or the file."""
    grey = modality in MODALITIES and modality not in COLOUR_MODALITIES
    doubt = photograph_doubt(image, modality, takes_colour=not grey)
    if doubt is not None:
        yield Finding("intensity_mismatch", doubt)


def _own_labels(image: Image, labels: Image) -> Iterator[Finding]:
    """A label map that was saved in the place of its image, its ids as they are or scaled to be seen."""
    for channel in image.array:
        if channel.shape != labels.array[0].shape or not np.array_equal(channel != 0, labels.array[0] != 0):
            continue
        if len(np.unique(channel)) <= len(np.unique(labels.array)) > 1:
            text = f"{image.name} is its own label map and no image: copy the image to its place."
            yield Finding("intensity_mismatch", text)
            return


def _values(image: Image, channels: tuple[str, ...], modality: str | None) -> Iterator[_ValuesOf]:
    if image.channels != len(channels) or image.is_2d or not image.physical:
        return  # pictures of CT have another scale, and are learned from as such
    for index, (channel, is_ct) in enumerate(zip(image.array, ct_channels(channels, modality or ""), strict=True)):
        file = image.files[index].name if len(image.files) == image.channels else image.name
        kind = modality_of_channel(channels[index]) or (modality if len(channels) == 1 else None)
        fault = None
        if is_ct:
            fault = not_hounsfield(channel)
        elif kind in _NEVER_HOUNSFIELD and is_surely_ct(channel):
            fault = (
                f"{file} looks like CT (Hounsfield units) and is taken for {channels[index]}: check that it is the "
                "right file."
            )
        yield _ValuesOf(index, file, is_ct, fault)


class DatasetDoubts:
    """Looks at the cases of a data set one after the other, and sums up.

    Args:
        channels: The channels' names.
        modality: The data set's modality; None where it does not say.
        sided: Whether classes differ by body side.
    """

    def __init__(self, channels: tuple[str, ...], modality: str | None, sided: bool) -> None:
        self._channels, self._sided = channels, sided
        self._modality = modality
        self._findings: dict[str, list[tuple[str, str]]] = {}  # what is doubted -> (file, text)
        self._hounsfield: list[list[tuple[str, str | None]]] = [[] for _ in channels]  # (file, what is wrong)
        self._oriented: dict[bool, list[str]] = {True: [], False: []}
        self._same: dict[str, list[str]] = {}  # sha256 -> names

    def add(self, image: Image, labels: Image | None) -> None:
        """Look at one case.

        Args:
            image: Its image, as it was read.
            labels: Its label map on the image's grid, where there is one that fits.
        """
        name = image.name
        self._same.setdefault(image.sha256, []).append(f"{image.files[0].parent.name}/{name}")
        unknown = "orientation_unknown"
        if image.physical and not image.is_2d:
            self._oriented[is_oriented(image)].append(name)
        found = [finding for finding in image.findings if finding.code != unknown]
        found += [] if labels is None else [finding for finding in labels.findings if finding.code != unknown]
        found += [] if labels is None else list(_own_labels(image, labels))
        for finding in (*found, *_shown(image, self._channels, self._modality)):
            self._note(finding, name)
        for doubt in _values(image, self._channels, self._modality):
            if doubt.is_ct:
                self._hounsfield[doubt.channel].append((doubt.file, doubt.fault))
            elif doubt.fault is not None:
                self._note(Finding("intensity_mismatch", doubt.fault), name, doubt.file)

    def sentences(self) -> Iterator[str]:
        """Sum up.

        Yields:
            One sentence per kind of doubt.
        """
        yield from self._of_orientation()
        yield from self._of_hounsfield()
        for noted in self._findings.values():
            (_, text), *others = noted
            yield text if not others else f"{text} The same holds of {_listed([name for name, _ in others])}."
        for names in self._same.values():
            if len(names) > 1:
                split = {name.split("/")[0] for name in names}
                worse = "; what was trained on is no test" if len(split) > 1 else ""
                yield f"{_listed(names)} are one and the same image{worse}: keep it once."

    def _note(self, finding: Finding, name: str, file: str | None = None) -> None:
        """``file``: what the text calls it, where that is not ``name``."""
        if finding.level == "warning":
            # many things can be wrong with values, of which "the same holds" is not true
            values = finding.code == "intensity_mismatch"
            what = finding.text.replace(file or name, "") if values else finding.code
            self._findings.setdefault(what, []).append((name, finding.text))

    def _of_orientation(self) -> Iterator[str]:
        known, unknown = self._oriented[True], self._oriented[False]
        if unknown and (known or self._sided):
            why = "and others do" if known else "and classes differ by side"
            yield (
                f"{_listed(unknown)} {'do' if len(unknown) > 1 else 'does'} not say how it lies in the patient, {why}: "
                "left and right may be swapped, and would be learned so; save it with its orientation (NIfTI: an sform "
                "code)."
            )

    def _of_hounsfield(self) -> Iterator[str]:
        for channel, looked_at in zip(self._channels, self._hounsfield, strict=True):
            wrong = [(name, fault) for name, fault in looked_at if fault is not None]
            if not wrong:
                continue
            if len(wrong) == len(looked_at):
                yield (
                    f"No image of channel {channel} looks like CT ({wrong[0][0]}: {wrong[0][1]}): what is trained on "
                    "them fits only images that are scaled the same way."
                )
                continue
            names = [name for name, _ in wrong]
            yield (
                f"{_listed(names)} {'do' if len(names) > 1 else 'does'} not look like CT, as the other images do: "
                f"{wrong[0][1]}; export it in Hounsfield units."
            )


def _listed(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))[: _NAMED + 1]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
