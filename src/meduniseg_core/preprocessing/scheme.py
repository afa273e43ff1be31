"""nnU-Net's way from an image to a network and back, as data: for models that nnU-Net trained.

A plan without a scheme follows this program's own rules (`pipeline`). With a scheme, an image keeps the orientation of
its file, is cropped to what is not zero, normalised and resampled by splines; windows never shrink, and the network's
output is resampled back by the rule that the scheme names.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Order = Annotated[int, Field(ge=0, le=5)]


class Resampling(BaseModel):
    """How arrays are resampled.

    ``order`` is that of the spline. Where slices are resampled separately, they are resampled one by one, and then
    across by ``order_across``. ``separate`` is True (always), False (never) or None (where one axis is coarser than
    ``anisotropy`` times the finest). ``kind`` "none" leaves the array as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["spline", "none"] = "spline"
    order: Order = 3
    order_across: Order = 0
    separate: bool | None = None
    anisotropy: float = Field(default=3.0, ge=1, le=1e6, allow_inf_nan=False)


class Scheme(BaseModel):
    """What nnU-Net's plans say about preparing an image, beyond the fields that all plans have.

    ``version`` is nnU-Net's. Version 1 normalises after resampling and adds windows up in single precision, version 2
    normalises before and adds in half. On the way back, version 1 decides by the image's own spacing first whether
    slices are resampled separately, version 2 by the network's.
    ``orientation``: axes as in the file, or turned to right, front and head ("RAS"). ``transpose``: axis ``n`` of the
    network is the image's axis ``transpose[n]``; the plan's spacing and patch follow the network's axes.
    ``region_labels``: for a network whose outputs are overlapping regions, the label that each writes, in this order,
    where its sigmoid is above 1/2 (None: outputs are classes, and the strongest wins). ``pixels``: spacings count in
    pixels, for images without a size in mm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2] = 2
    orientation: Literal["file", "RAS"] = "file"
    transpose: tuple[int, int, int] = (0, 1, 2)
    image_resampling: Resampling = Resampling()
    logit_resampling: Resampling = Resampling(order=1)
    region_labels: tuple[Annotated[int, Field(ge=1, le=65535)], ...] | None = Field(default=None, min_length=1)
    pixels: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(self.transpose) != [0, 1, 2]:
            raise ValueError("transpose is an order of the axes 0, 1, 2")
        return self
