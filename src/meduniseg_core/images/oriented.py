"""Whether a file says how its volume lies in the patient, and what to do where it does not: ask the user."""

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
    """Whether the file says how the image lies in the patient: what its reader found out."""
    return image.meta.get("orientation_known", True) is not False and all(
        finding.code != "orientation_unknown" for finding in image.findings
    )


def towards(code: str) -> Matrix3:
    """The direction (as in :class:`Geometry`) of a volume whose file's first, second and third axis point where
    ``code`` says, as in nibabel: RAS is right, front, head.

    UsageError for anything but three letters, one each of R or L, A or P, S or I.
    """
    letters = code.strip().upper()
    columns = [_TOWARDS[letter] for letter in reversed(letters) if letter in _TOWARDS]  # (d, h, w): the last axis first
    if len(letters) != 3 or len(columns) != 3 or abs(np.linalg.det(np.array(columns))) < 0.5:
        raise UsageError(
            f"'{code}' is no orientation; say where the file's axes point to: R or L, A or P, S or I, as in RAS or LPS."
        )
    x, y, z = ((columns[0][row], columns[1][row], columns[2][row]) for row in range(3))
    return x, y, z


def assume_orientation(image: Image, code: str) -> Image:
    """``image`` with the orientation that its file does not give; spacing and voxels stay.

    ``code``: see :func:`towards`, whose UsageError is raised.
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
    """``image`` as :func:`assume_orientation` leaves it where its file gives no orientation; else ``image`` itself.

    Args:
        image: What was read.
        code: What the user said, "RAS" say; None where nothing was said.

    Returns:
        The image with an orientation, where there was none and one was said.
    """
    if code is None or not image.physical or is_oriented(image):
        return image
    return assume_orientation(image, code)
