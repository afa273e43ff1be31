"""The entries of the catalogue's TOML files, typed and checked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_NAME = r"^[a-z][a-z0-9_]*$"


class Modality(BaseModel):
    """A kind of image. MMap has one prompt for each (docs/spec.md section 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    dicom: tuple[str, ...] = Field(min_length=1, description="what DICOM headers call it (Modality, 0008,0060)")
    dimension: Literal[2, 3] = Field(description="what such an image typically is")
    hounsfield: bool = Field(description="whether the values are Hounsfield units")
    pixel_mm: tuple[float, float] = Field(description="finest and coarsest pixel that such images have")
    slice_mm: float = Field(gt=0, description="largest distance of slices that such images have")
    longest_mm: float = Field(gt=0, description="most that such an image shows along a side")


class Task(BaseModel):
    """A data set of the paper, and what is segmented in it (docs/spec.md sections 6, 7 and 9).

    A model carries its own task list; the catalogue only lists what the paper trains. Geometry is in array order
    ``(D, H, W)``; exactly one of ``spacing`` (mm) and ``pixels`` (H, W) is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    title: str = Field(min_length=1)
    dataset: str = Field(min_length=1, description="what the paper calls it")
    aliases: tuple[str, ...] = ()
    stage: Literal["upstream", "downstream"]
    modality: str
    dimension: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1, description="in the order the network takes them")
    classes: tuple[str, ...] = Field(min_length=1, description="foreground classes; label id = position + 1")
    spacing: tuple[float, float, float] | None = None
    pixels: tuple[int, int] | None = None
    patch: tuple[int, int, int]
    batch: int = Field(ge=1)
    mirror_axes: tuple[int, ...]
    train: int = Field(ge=1, description="cases")
    test: int = Field(ge=1, description="cases")
    iterations: int | None = Field(default=None, ge=1, description="of fine-tuning; None for upstream tasks")
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.spacing is None) != (self.dimension == 2) or (self.pixels is None) != (self.dimension == 3):
            raise ValueError("3D tasks have a spacing, 2D tasks a size in pixels")
        if (self.patch[0] == 1) != (self.dimension == 2):
            raise ValueError("2D tasks and only they have patches of depth 1")
        if (self.iterations is None) != (self.stage == "upstream"):
            raise ValueError("downstream tasks and only they have a number of iterations")
        return self

    @property
    def class_count(self) -> int:
        """Output channels of the task, background included."""
        return len(self.classes) + 1
