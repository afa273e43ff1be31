"""What a ledger accepts: its class names, and images of one form that its file format can hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Image
from meduniseg_core.images.formats import ENDINGS, PHOTOGRAPH_FORMATS
from meduniseg_core.preprocessing import RawDataset

_COLOURS = ("R", "G", "B")
_STORED = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff")


def ending_for(image: Image) -> str:
    """The file ending for a ledger of images like this one.

    Args:
        image: the ledger's first image.

    Returns:
        .nii.gz, or .png (else .tif) for pictures without a size in mm.
    """
    if image.physical:
        return ".nii.gz"
    colour = image.channels == 3 and image.array.dtype == np.uint8
    plain = image.array.dtype in (np.uint8, np.uint16)
    return ".png" if image.is_2d and (colour or plain) else ".tif"


def channels_for(image: Image, modality: str) -> tuple[str, ...]:
    """Channel names for a ledger of images like this one.

    Args:
        image: the ledger's first image.
        modality: the images' modality.

    Returns:
        R, G, B for colour images, else the modality, numbered if there are several channels.
    """
    if image.channels == 3 and image.meta.get("colour") == "rgb":
        return _COLOURS
    name = modality.upper()
    return (name,) if image.channels == 1 else tuple(f"{name} {index + 1}" for index in range(image.channels))


def check_ledger_ending(ending: str) -> None:
    """Refuse file formats that lose voxels, labels or geometry.

    Args:
        ending: the file ending with its dot.

    Raises:
        UsageError: it is such a format.
    """
    if ending not in _STORED:
        raise UsageError(f"A ledger's files cannot end in '{ending}'; use one of {' '.join(_STORED)}.")


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Check class names.

    Args:
        classes: the names as the user typed them.

    Returns:
        The names without outer blanks.

    Raises:
        UsageError: there is no name, one occurs twice, or one is reserved by nnU-Net.
    """
    names = tuple(name.strip() for name in classes)
    if not names:
        raise UsageError("There is no class; give the name of at least one.")
    for name in names:
        if not name.isprintable() or not name or name.lower() in ("background", "ignore"):
            raise UsageError(f"{name!r} cannot be the name of a class; give another.")
        if names.count(name) > 1:
            raise UsageError(f"The class '{name}' is named twice; give every class its own name.")
    return names


def longer_classes(known: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Append new classes to the existing ones; a shorter list removes none.

    Args:
        known: the ledger's classes.
        wanted: the requested classes; None for no change.

    Returns:
        All classes.

    Raises:
        UsageError: a label would change its meaning.
    """
    if wanted is None:
        return tuple(known)
    names = check_classes(wanted)
    common = min(len(names), len(known))
    if names[:common] != tuple(known[:common]):
        raise UsageError(
            f"The ledger's classes are {', '.join(known)}, in this order, not {', '.join(names)}; "
            "give them unchanged and new ones after them."
        )
    return names if len(names) > len(known) else tuple(known)


def check_form(image: Image, dataset: RawDataset, first_shape: tuple[int, int, int] | None) -> None:
    """Refuse an image of another form than the ledger's.

    Args:
        image: the image.
        dataset: the ledger as a data set.
        first_shape: (D, H, W) of the ledger's first image; None if the ledger is empty.

    Raises:
        BadInputError: the number of channels differs, one is 2D and the other 3D, or only one has a size in mm.
    """
    if image.channels != len(dataset.channels):
        raise BadInputError(
            f"{image.name} has {image.channels} channel(s) and the cases of {dataset.folder} have "
            f"{len(dataset.channels)} ({', '.join(dataset.channels)}); give all channels of the case, or use a ledger "
            "of its own."
        )
    if first_shape is not None and image.is_2d != (first_shape[0] == 1):
        kinds = ("a 2D image", "volumes") if image.is_2d else ("a volume", "2D images")
        raise BadInputError(
            f"{image.name} is {kinds[0]} and the cases of {dataset.folder} are {kinds[1]}; use a ledger of its own."
        )
    ending = dataset.description.file_ending
    picture_files = ENDINGS.get(ending.lower()) in PHOTOGRAPH_FORMATS
    if image.physical == picture_files:
        has = "a size in mm" if image.physical else "no size in mm"
        raise BadInputError(
            f"{image.name} has {has}, which the {ending} files of {dataset.folder} cannot say; use a ledger of its own."
        )
