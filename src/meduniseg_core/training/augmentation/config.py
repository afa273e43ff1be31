"""Settings: how often and how strongly a sample is changed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1]:
        raise ValueError("a range is two numbers, not negative, the smaller one first")
    return limits


def _around_one(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= 1 <= limits[1]:
        raise ValueError("a range of factors is two positive numbers with 1 between them")
    return limits


def _zoom_out(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError("a range of zooms is two numbers above 0 and up to 1, the smaller one first")
    return limits


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
FactorRange = Annotated[tuple[float, float], AfterValidator(_around_one)]
ZoomRange = Annotated[tuple[float, float], AfterValidator(_zoom_out)]


class AppearanceConfig(BaseModel):
    """Changes in appearance that other devices make; probabilities per sample, all 0 by default.

    Strengths are relative to the sample's own range of intensities, lowest to highest ("black" to "white").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_class_contrast: Probability = Field(default=0.0, description="classes become brighter or darker (contrast agent)")
    class_contrast: float = Field(default=0.6, ge=0, le=1, description="largest change, as a share of the range")
    p_colour: Probability = Field(default=0.0, description="hue and saturation: mixes the three channels")
    colour: float = Field(default=0.25, ge=0, le=1, description="largest share that one channel takes of another")
    p_grey_curve: Probability = Field(default=0.0, description="a random rising curve of intensities (window, gamma)")
    grey_curve: float = Field(default=0.5, ge=0, lt=1, description="0: the identity; towards 1: steps")
    p_illumination: Probability = Field(default=0.0, description="times a smooth field (bias field, vignette)")
    illumination: float = Field(default=0.5, ge=0, description="largest logarithm of the field")
    p_gain: Probability = Field(default=0.0, description="brighter or darker with depth (down the image)")
    gain: float = Field(default=0.7, ge=0, description="largest logarithm from top to bottom")
    p_speckle: Probability = Field(default=0.0, description="multiplicative noise")
    speckle: Range = (0.05, 0.3)
    p_spots: Probability = Field(default=0.0, description="white reflections")
    p_overlay: Probability = Field(default=0.0, description="text, rulers and marks drawn into the image")
    p_frame: Probability = Field(default=0.0, description="a black frame, straight or round; no label under it")
    p_jpeg: Probability = Field(default=0.0, description="lossy compression")
    jpeg: tuple[int, int] = Field(default=(15, 75), description="quality, 1 to 95")
    p_soft: Probability = Field(default=0.0, description="defocus: a stronger blur of all channels alike")
    soft: Range = (0.7, 2.5)

    @property
    def active(self) -> bool:
        """Whether any change is possible."""
        return any(getattr(self, name) > 0 for name in type(self).model_fields if name.startswith("p_"))


class AugmentationConfig(BaseModel):
    """How often (``p_...``, per sample) and how strongly a sample is changed. The defaults are nnU-Net's.

    Angles are in degrees. Intensities are those after normalisation (about zero mean, unit standard deviation). Factors
    below and above 1 are equally likely. ``p_..._channel`` is the share of channels that a chosen operation changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_rotation: Probability = 0.2
    rotation_2d: float = Field(default=180.0, ge=0, le=180, description="largest angle of 2D images")
    rotation_3d: float = Field(default=30.0, ge=0, le=180, description="largest angle about each axis of volumes")
    p_scaling: Probability = 0.2
    scaling: FactorRange = (0.7, 1.4)
    p_noise: Probability = 0.1
    noise: Range = (0.0, 0.1)
    p_blur: Probability = 0.2
    p_blur_channel: Probability = 0.5
    blur: Range = (0.5, 1.0)
    p_brightness: Probability = 0.15
    brightness: FactorRange = (0.75, 1.25)
    p_contrast: Probability = 0.15
    contrast: FactorRange = (0.75, 1.25)
    p_low_resolution: Probability = 0.25
    p_low_resolution_channel: Probability = 0.5
    low_resolution: ZoomRange = (0.5, 1.0)
    p_gamma: Probability = 0.3
    p_inverted_gamma: Probability = 0.1
    gamma: FactorRange = (0.7, 1.5)
    p_mirror: Probability = 0.5
    p_aspect: Probability = Field(default=0.0, description="in-plane stretching: the sides' ratio changes")
    aspect: FactorRange = (0.75, 1.33)
    appearance: AppearanceConfig = AppearanceConfig()
    presets: Literal["modality", "none"] = Field(
        default="modality",
        description="modality: adds changes that make a network robust to other scanners and cameras, by the task's "
        "modality (see `presets`); none: nnU-Net's augmentation as set here, as in the paper",
    )

    @classmethod
    def none(cls) -> Self:
        """No augmentation: every probability is 0.

        Returns:
            The configuration.
        """
        probabilities = {name: 0.0 for name in cls.model_fields if name.startswith("p_")}
        return cls.model_validate({**probabilities, "presets": "none"})


def draw_factor(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a factor; below and above 1 are equally likely.

    Args:
        limits: the smallest and the largest factor.
        rng: draws it.

    Returns:
        The factor.
    """
    below = rng.random() < 0.5
    return float(rng.uniform(limits[0], 1.0) if below else rng.uniform(1.0, limits[1]))
