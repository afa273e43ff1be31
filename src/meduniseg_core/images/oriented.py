"""Whether a file gives its orientation in the patient, and how the user can give it where the file does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.geometry import Matrix3
from meduniseg_core.images.image import Image

_TOWARDS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}
"""Where an axis points to, in LPS."""


def is_oriented(image: Image) -> bool:
    """Say whether the file gives the image's orientation in the patient.

    Args:
        image: An image as it was read.

    Returns:
        False where its reader found no orientation.
    """
    return image.meta.get("orientation_known", True) is not False and all(
        finding.code != "orientation_unknown" for finding in image.findings
    )


def towards(code: str) -> Matrix3:
    """Turn an orientation code into directions.

    Args:
        code: Where the file's first, second and third axis point, as nibabel writes it: RAS is right, front, head.

    Returns:
        The ``direction`` of a `Geometry`, for axes ``(D, H, W)``: the file's third axis is D.

    Raises:
        UsageError: The code is not three letters, one each of R or L, A or P, S or I.
    """
    letters = code.strip().upper()
    columns = [_TOWARDS[letter] for letter in reversed(letters) if letter in _TOWARDS]  # (d, h, w): the last axis first
    if len(letters) != 3 or len(columns) != 3 or abs(np.linalg.det(np.array(columns))) < 0.5:
        raise UsageError(
            f"'{code}' is not an orientation; say where the file's axes point to: R or L, A or P, S or I, as in RAS or "
            "LPS."
        )
    x, y, z = ((columns[0][row], columns[1][row], columns[2][row]) for row in range(3))
    return x, y, z


def assume_orientation(image: Image, code: str) -> Image:
    """Give an image the orientation that its file does not state. Spacing and voxels stay.

    Args:
        image: An image without orientation.
        code: Where its axes point; see `towards`.

    Returns:
        The image with that orientation and the finding "orientation_assumed".

    Raises:
        UsageError: The code is not an orientation.
    """
    direction = towards(code)
    text = f"{image.name} does not give its orientation: {code.strip().upper()} was assumed, as asked."
    kept = (finding for finding in image.findings if finding.code != "orientation_unknown")
    return replace(
        image,
        geometry=replace(image.geometry, direction=direction),
        meta={**image.meta, "orientation_known": True},
        findings=(*kept, Finding("orientation_assumed", text, "info")),
    )


def oriented_as_said(image: Image, code: str | None) -> Image:
    """Apply the user's orientation where the file gives none.

    Args:
        image: An image as it was read.
        code: The user's orientation, such as "RAS"; None where the user gave none.

    Returns:
        The image with that orientation; where it needs none, the image with a finding that says so.

    Raises:
        UsageError: The code is not an orientation.
    """
    if code is None:
        return image
    if not image.physical or is_oriented(image):
        why = "states its orientation" if image.physical else "has no place in a patient"
        towards(code)
        text = f"{image.name} {why}, so the one that was given is not used (--assume-orientation {code})."
        return image.with_findings(Finding("orientation_assumed", text, "info"))
    return assume_orientation(image, code)
