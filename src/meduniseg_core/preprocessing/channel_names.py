"""Rules for the names of an image's channels: which make a colour image, and which give its modality away."""

from __future__ import annotations

_COLOURS = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
# what nnU-Net users write as channel names, where it settles the modality
_CHANNELS_OF_MODALITY = {
    "ct": ("ct",),
    "mri": ("mri", "mr", "t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t1gd", "flair", "adc", "dwi"),
    "pet": ("pet", "suv"),
    "ultrasound": ("ultrasound", "us"),
    "xray": ("xray", "x-ray"),
    "fundus": ("fundus",),
    "dermoscopy": ("dermoscopy",),
    "pathology": ("pathology",),
    "endoscopy": ("endoscopy",),
}
_MODALITY_OF_CHANNEL = {name: modality for modality, names in _CHANNELS_OF_MODALITY.items() for name in names}


def is_colour(channels: tuple[str, ...]) -> bool:
    """Say whether channels are the red, green and blue of one colour image.

    Args:
        channels: The channels' names, in order.

    Returns:
        True for R, G, B or red, green, blue.
    """
    return len(channels) == 3 and all(name.lower() in names for name, names in zip(channels, _COLOURS, strict=True))


def modality_of_channel(name: str) -> str | None:
    """Find the modality that a channel's name tells, such as "CT" or "T1".

    Args:
        name: The channel's name.

    Returns:
        The modality; None where the name does not tell.
    """
    return _MODALITY_OF_CHANNEL.get(name.strip().lower())


def modality_of_channels(names: tuple[str, ...]) -> str | None:
    """Find the modality that the names of an image's channels tell.

    Args:
        names: The names of all channels.

    Returns:
        The modality they share; PET for PET/CT (docs/spec.md section 3); None where they do not tell.
    """
    found = {modality_of_channel(name) for name in names}
    if found == {"ct", "pet"}:
        return "pet"
    return found.pop() if len(found) == 1 else None


def files_per_case(channels: tuple[str, ...]) -> int:
    """Count the files that make one case.

    Args:
        channels: The channels' names.

    Returns:
        One per channel; 1 for a colour image.
    """
    return 1 if is_colour(channels) else len(channels)
