"""Presets by modality: the changes by which its devices really differ, on by default (`AugmentationConfig.presets`).

Volumes in Hounsfield units keep their intensities; operations meant for photographs apply to 2D images only.
``experiments/starter/sources.py`` measures what each group is worth, on the same source and on a source that was left
out.
"""

from __future__ import annotations

from typing import Any

from meduniseg_core.training.augmentation.config import AppearanceConfig, AugmentationConfig

GROUPS: dict[str, dict[str, float]] = {
    "contrast": {"p_class_contrast": 0.8},
    "colour": {"p_colour": 0.5},
    "light": {"p_illumination": 0.3},
    "curve": {"p_grey_curve": 0.4},
    "sharpness": {"p_soft": 0.2, "p_jpeg": 0.2},
    "overlay": {"p_overlay": 0.15},
    "frame": {"p_frame": 0.2},
    "spots": {"p_spots": 0.3},
    "sound": {"p_speckle": 0.3, "p_gain": 0.3},
}
"""Operations that are switched on together."""

MODALITY_GROUPS: dict[str, tuple[str, ...]] = {
    "dermoscopy": ("colour", "light", "curve", "sharpness", "overlay", "frame"),
    "fundus": ("colour", "light", "curve", "sharpness", "frame"),
    "pathology": ("colour", "curve", "sharpness"),
    "endoscopy": ("colour", "light", "curve", "sharpness", "overlay", "frame", "spots"),
    "ultrasound": ("light", "curve", "sharpness", "overlay", "frame", "sound"),
    "xray": ("light", "curve", "sharpness", "overlay", "frame"),
    "mri": ("light", "curve"),
    "pet": (),
    "ct": ("contrast", "curve", "sharpness"),
}
"""The groups that are on for 2D images of a modality; for volumes see `_VOLUME_GROUPS`."""

_VOLUME_GROUPS: dict[str, tuple[str, ...]] = {"mri": ("light", "curve")}


def for_task(config: AugmentationConfig, modality: str, dimension: int) -> AugmentationConfig:
    """Add the preset of a task's modality; appearance settings in the configuration take precedence.

    Args:
        config: the run's configuration.
        modality: the task's modality.
        dimension: 2 or 3.

    Returns:
        The task's configuration.
    """
    if config.presets == "none":
        return config
    groups = (MODALITY_GROUPS if dimension == 2 else _VOLUME_GROUPS).get(modality, ())
    changes: dict[str, Any] = {name: value for group in groups for name, value in GROUPS[group].items()}
    own = config.appearance.model_dump(exclude_unset=True)
    appearance = AppearanceConfig.model_validate({**changes, **own})
    update: dict[str, Any] = {"appearance": appearance, "presets": "none"}
    if dimension == 2 and "p_aspect" not in config.model_fields_set:
        update["p_aspect"] = 0.3
    return config.model_copy(update=update)
