"""An image made ready for a predictor: checked, on perpendicular axes, and preprocessed for the first pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meduniseg_core.images import Image
from meduniseg_core.images.findings import Finding
from meduniseg_core.inference.deshear import Desheared
from meduniseg_core.inference.execution import Request
from meduniseg_core.inference.source import SliceSource, VolumeSource
from meduniseg_core.preprocessing import TaskPlan


@dataclass
class PreparedImage:
    """What `Predictor.prepare` makes and `Predictor.segment_prepared` takes, once.

    ``given`` and ``asked`` are the image and the request as they were given, ``image`` and ``request`` what the passes
    see. ``checked`` are the findings about the image for each task. ``first`` is the preprocessed image of the first
    pass, by what its preprocessing depends on.
    """

    given: Image
    image: Image
    plans: list[TaskPlan]
    asked: Request
    request: Request
    desheared: Desheared | None
    checked: Mapping[str, tuple[Finding, ...]]
    first: tuple[Any, VolumeSource | SliceSource] | None = field(default=None, repr=False)
