"""What is asked of the server with an upload."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from meduniseg_core.images.boxes import Box

_FORBIDDEN = frozenset('/\\:*?"<>|')


class JobOrder(BaseModel):
    """The options of ``meduniseg segment`` that make sense from afar, and the name of the file that is sent.

    ``box`` is the part to segment in voxels: start and end along depth, rows and columns, with commas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    filename: str = Field(min_length=1, max_length=120)
    task: str = Field(min_length=1, max_length=2000)
    modality: str | None = Field(default=None, max_length=100)
    format: str | None = Field(default=None, max_length=20)
    series: str | None = Field(default=None, max_length=200)
    frame: int | None = Field(default=None, ge=1)
    tta: bool = False
    overlap: float = Field(default=0.5, ge=0.0, le=0.9)
    scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    orientation: str | None = Field(default=None, max_length=3)
    review_below: float = Field(default=0.5, ge=0.0, le=1.0)
    box: str | None = Field(default=None, pattern=r"^\d{1,6}(,\d{1,6}){5}$")
    packs: Literal["in-use", "none"] = "in-use"

    @field_validator("filename")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        """A name, never a path: the server chooses where files lie."""
        if name.startswith(".") or any(letter in _FORBIDDEN or not letter.isprintable() for letter in name):
            raise ValueError("it must be a plain file name, without folders")
        return name

    @property
    def part(self) -> Box | None:
        """The part to segment: (start, end) along each axis."""
        if self.box is None:
            return None
        d0, d1, h0, h1, w0, w1 = (int(number) for number in self.box.split(","))
        return (d0, d1), (h0, h1), (w0, w1)
