"""The tables of a training's configuration that choose the network and fix parts of a task's plan."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.model.config import PriorDesign, Stride
from meduniseg_core.preprocessing.plan import (
    LONGEST_SIDE_NAMES,
    Batch,
    ClassNames,
    LongestSide,
    Millimetres,
    Patch,
    Voxels,
)


class NetworkSettings(PriorDesign):
    """The part of the architecture that can be chosen; classes, tasks and modalities follow from the data sets."""

    also_left_out: ClassVar[tuple[str, ...]] = ("modal_prior",)

    features: tuple[int, ...] = Field(
        default=(32, 64, 128, 256, 320, 320), description="of each stage, finest first; the paper's"
    )
    strides: tuple[Stride, ...] = Field(
        default=((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)), description="between the stages (D, H, W)"
    )
    task_prompt_channels: int = Field(default=100, description="of the task prompt (FUSE)")
    task_prompt_size: tuple[int, int, int] = Field(default=(4, 6, 6), description="grid of the task prompt (D, H, W)")
    modal_prompt_length: int = Field(default=512, description="of each modality's prompt (MMap)")
    priors: bool = Field(default=True, description="False trains the plain backbone, as for a single task")
    modal_prior: bool = Field(default=True, description="False leaves only the task prior (UniSeg)")

    @property
    def told_task(self) -> bool:
        """Whether the network is told the task."""
        return self.priors and not self.single_task

    @property
    def told_modality(self) -> bool:
        """Whether the network is told the image's modality."""
        return self.priors and self.modal_prior and self.method in ("meduniseg", "hermes")


class PlanSettings(BaseModel):
    """Settings of a task's plan that can be fixed by hand; the others are planned from the data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    patch: Patch | None = Field(default=None, description="size (D, H, W) in voxels")
    batch: Batch | None = Field(default=None, description="samples of a step, of all processes together")
    patch_voxels: Voxels | None = Field(
        default=None, description="the most voxels of a patch that is not given and follows the images' median shape"
    )
    batch_voxels: Voxels | None = Field(default=None, description="the most of a batch that is not given")
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = Field(
        default=None, description="of the network's grid (D, H, W) in mm"
    )
    longest_side: LongestSide | None = Field(
        default=None, validation_alias=LONGEST_SIDE_NAMES, description="pixels of pictures without a size in mm"
    )
    hu_window: tuple[float, float] | None = Field(default=None, description="see `TaskPlan.hu_window`")
    largest_only: tuple[str, ...] | None = Field(default=None, description="see `TaskPlan.largest_only`")
    classes: ClassNames | None = Field(default=None, description="other names for the data set's classes, in order")

    def over(self, base: PlanSettings) -> PlanSettings:
        """Combine these settings with defaults.

        Args:
            base: the defaults, used for what is not set here.

        Returns:
            The combined settings.
        """
        return PlanSettings(**{**base.model_dump(), **self.model_dump(exclude_none=True)})
