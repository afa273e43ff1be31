"""The plan of a task: how an image is prepared before the network sees it, as JSON that a person can read and edit.

A model's file holds the plans of all its tasks (`weights`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.catalog import task_title
from meduniseg_core.preprocessing.scheme import Scheme
from meduniseg_core.preprocessing.statistics import TaskStatistics
from meduniseg_core.validation import NAME_PATTERN

Normalisation = Literal["ct", "zscore", "zscore_nonzero", "rescale01", "rgb01", "none"]
"""``ct``: clip to the data set's percentiles, standardise with its figures. ``zscore``: mean 0, deviation 1 per image
and channel. ``zscore_nonzero``: the same over the voxels that are not constant background, which becomes 0
(skull-stripped MR; nnU-Net's mask for normalisation). ``rescale01``: the image's smallest value to 0, its largest to 1.
``rgb01``: divided by 255. ``none``: as stored."""


# Wider than anything that is imaged, from a micrograph's pixels to a whole-body scout; narrow enough that a plan with a
# slip (metres, a lost exponent) or a hostile one is refused here and not by memory that runs out.
MIN_MILLIMETRES, MAX_MILLIMETRES = 1e-5, 1e3
Millimetres = Annotated[float, Field(ge=MIN_MILLIMETRES, le=MAX_MILLIMETRES, allow_inf_nan=False)]
Intensity = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
MAX_SIDE, MAX_PATCH_VOXELS, MAX_BATCH = 1 << 14, 1 << 28, 1 << 12
LongestSide = Annotated[int, Field(ge=16, le=MAX_SIDE)]
# the second is what files written before November 2026 call it
LONGEST_SIDE_NAMES = AliasChoices("longest_side", "long_side")
Batch = Annotated[int, Field(ge=1, le=MAX_BATCH)]
Voxels = Annotated[int, Field(ge=1, le=MAX_PATCH_VOXELS * MAX_BATCH)]


def check_patch(patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Check that a patch is of a size that a network can take.

    Args:
        patch: ``(D, H, W)``.

    Returns:
        The patch.

    Raises:
        ValueError: A side is below 1 or too large, or there are too many voxels.
    """
    if min(patch) < 1 or max(patch) > MAX_SIDE or math.prod(patch) > MAX_PATCH_VOXELS:
        raise ValueError(f"{patch} is an impossible patch or size")
    return patch


Patch = Annotated[tuple[int, int, int], AfterValidator(check_patch)]


def check_class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse class names that results could not keep apart.

    Args:
        names: of the foreground classes.

    Returns:
        The names.

    Raises:
        ValueError: one is empty, or two are the same.
    """
    if not all(name.strip() for name in names):
        raise ValueError("a class has no name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two classes are called {twice[0]}")
    return names


ClassNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(check_class_names)]


class IntensityStatistics(BaseModel):
    """Statistics of the foreground intensities of one channel over a data set (HU for CT)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Intensity
    std: float = Field(ge=1e-9, le=1e9, allow_inf_nan=False)
    percentile_00_5: Intensity
    percentile_99_5: Intensity

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.percentile_00_5 > self.percentile_99_5:
            raise ValueError("the lower percentile lies above the upper one")
        return self


_BY_SCHEME = {"resampling": "bspline", "low_pass": False, "small_images": "pad"}
_CAME_LATER = ("hu_window", "resampling", "low_pass", "small_images", "averaging", "scheme", "largest_only")


class TaskPlan(BaseModel):
    """One task as a model knows it: its classes, its channels and its preprocessing.

    Geometry is in array order ``(D, H, W)``. Exactly one of two fields is set: ``spacing`` (mm) for volumes and 2D
    images with a size, or ``longest_side`` (pixels) for photographs, whose longer side is scaled to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    modality: str
    dimension: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1, description="names, in the order the network takes them")
    classes: ClassNames = Field(description="foreground classes; label id = position + 1")
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    longest_side: LongestSide | None = Field(default=None, validation_alias=LONGEST_SIDE_NAMES)
    patch: Patch
    batch: Batch = 2
    normalisation: tuple[Normalisation, ...]
    figures: tuple[IntensityStatistics | None, ...]
    mirror_axes: tuple[int, ...] = Field(
        default=(), description="axes of (D, H, W) along which mirroring keeps every class's meaning"
    )
    crop_to_body: bool = True
    hu_window: tuple[float, float] | None = Field(
        default=None,
        description="of a CT task that learned from windowed pictures: the HU that are black and white in them; a CT "
        "in HU is clipped to it first",
    )
    resampling: Literal["cubic", "bspline"] = Field(
        default="cubic",
        description="of intensities: Keys' cubic convolution, or splines through every voxel, as the scheme says",
    )
    low_pass: bool = Field(
        default=True,
        description="what is reduced (in mm: by more than 2) is low-passed first, so that no sample is left out",
    )
    small_images: Literal["shrink", "pad"] = Field(
        default="shrink",
        description="of images smaller than the patch: the window shrinks, or the image is padded to the patch",
    )
    averaging: Literal["logits", "probabilities"] = Field(
        default="logits", description="what is averaged over windows and mirrorings, and resampled to the image"
    )
    scheme: Scheme | None = Field(default=None, description="how nnU-Net prepares images; None: as this program does")
    largest_only: tuple[str, ...] = Field(
        default=(),
        description="classes of which only the largest connected component is kept, as held-out images decided",
    )
    statistics: TaskStatistics | None = Field(default=None, description="what the training images and classes are like")

    @model_validator(mode="before")
    @classmethod
    def _as_its_scheme(cls, content: Any) -> Any:
        """What a scheme implies need not be said: plans from before these fields do not say it."""
        if isinstance(content, dict) and content.get("scheme") is not None:
            return {**_BY_SCHEME, **content}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.spacing is None) == (self.longest_side is None):
            raise ValueError("give exactly one of spacing and longest_side")
        if len(self.normalisation) != len(self.channels) or len(self.figures) != len(self.channels):
            raise ValueError("normalisation and figures need one entry per channel")
        for kind, figures in zip(self.normalisation, self.figures, strict=True):
            if kind == "ct" and figures is None:
                raise ValueError("normalisation 'ct' needs intensity figures")
        if self.hu_window is not None and not self.hu_window[0] < self.hu_window[1]:
            raise ValueError("hu_window is two HU, the lower one first")
        if not set(self.largest_only) <= set(self.classes):
            raise ValueError("largest_only names classes of the task")
        if self.dimension == 2 and self.patch[0] != 1:
            raise ValueError("a 2D task has a patch of depth 1")
        if any(axis not in (0, 1, 2) for axis in self.mirror_axes):
            raise ValueError("mirror_axes are taken from 0, 1, 2")
        if self.scheme is not None and self.spacing is None:
            raise ValueError("a scheme of nnU-Net needs a spacing")
        if self.scheme is None and self.resampling != "cubic":
            raise ValueError("resampling 'bspline' needs the scheme that says how")
        if self.scheme is not None and any(getattr(self, name) != value for name, value in _BY_SCHEME.items()):
            raise ValueError("a scheme of nnU-Net resamples by splines without low-pass, and pads small images")
        if self.region_labels is not None and max(self.region_labels) > len(self.classes):
            raise ValueError("a region writes a label that is not a class")
        return self

    @property
    def region_labels(self) -> tuple[int, ...] | None:
        """The label that each output writes, for a network whose outputs are overlapping regions; None for classes."""
        return None if self.scheme is None else self.scheme.region_labels

    @property
    def half_sums(self) -> bool:
        """Whether sums of windows and what is resampled of them are rounded to half precision, as nnU-Net 2 does."""
        return self.scheme is not None and self.scheme.version == 2

    @property
    def outputs(self) -> int:
        """How many output channels of the network the task uses: classes with background, or regions."""
        return self.class_count if self.region_labels is None else len(self.region_labels)

    @property
    def shown_title(self) -> str:
        """What people call the task: the plan's title, else the catalogue's, else the task's name."""
        return self.title or task_title(self.task, self.modality, self.classes)

    @property
    def class_count(self) -> int:
        """How many classes the task has, background included; only they enter the loss (docs/spec.md section 5)."""
        return len(self.classes) + 1


def unsaid_before(plan: TaskPlan) -> set[str]:
    """Fields that came after plans were first hashed, where a plan has what they mean by default.

    Args:
        plan: any.

    Returns:
        Names that stay out of what is hashed, so that caches and runs from before keep their keys.
    """
    meant = {name: TaskPlan.model_fields[name].default for name in _CAME_LATER}
    if plan.scheme is not None:
        meant |= _BY_SCHEME
    return {name for name, value in meant.items() if getattr(plan, name) == value}


def with_former_names(content: dict[str, Any]) -> dict[str, Any]:
    """Rename fields to what they were called when they were first hashed.

    So a renamed field changes neither cache keys nor the hash that a resumed run must match.

    Args:
        content: A dumped plan or settings; dictionaries within it are renamed, too.

    Returns:
        A copy.
    """
    former = {"longest_side": "long_side"}
    return {
        former.get(key, key): with_former_names(value) if isinstance(value, dict) else value
        for key, value in content.items()
    }
