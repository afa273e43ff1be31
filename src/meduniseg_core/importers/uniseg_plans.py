"""Reads the preprocessing in nnU-Net v1's plans (``*.model.pkl`` or ``plans*.pkl``) without trusting them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.importers.restricted_pickle import read_plain_pickle
from meduniseg_core.preprocessing.plan import MAX_MILLIMETRES, MIN_MILLIMETRES, IntensityStatistics
from meduniseg_core.preprocessing.scheme import Resampling

_OWN_PREPROCESSOR = "DoDNetPreprocessor"  # UniSeg's, which it took from DoDNet


def _usual_export() -> Resampling:
    return Resampling(order=1)


@dataclass(frozen=True)
class NnunetPlans:
    """The part of the plans that matters here; None or empty where they leave it open.

    ``spacing`` (mm) and ``patch`` (voxels) are along (D, H, W); ``schemes``, ``masked`` and ``figures`` are by channel.
    ``preprocessor`` is the name of the class that prepared the images, ``export`` how probabilities are resampled.
    """

    spacing: tuple[float, float, float] | None
    patch: tuple[int, int, int] | None
    schemes: Mapping[int, str]
    masked: Mapping[int, bool]
    figures: Mapping[int, IntensityStatistics]
    preprocessor: str | None = None
    export: Resampling = field(default_factory=_usual_export)

    @property
    def uniseg_s_own(self) -> bool:
        """Whether UniSeg's own preprocessor is named, which knows no figures: its CT window is fixed."""
        return self.preprocessor == _OWN_PREPROCESSOR


def read_v1_plans(path: Path) -> NnunetPlans:
    """Read plans of nnU-Net v1.

    Args:
        path: a pickle.

    Returns:
        The preprocessing they describe.

    Raises:
        BadInputError: the pickle asks for code, or does not hold such plans.
    """
    content = read_plain_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("plans"), dict):
        content = content["plans"]  # a .model.pkl holds the plans beside the trainer's arguments
    if not isinstance(content, dict) or "plans_per_stage" not in content:
        _refuse(path, "they hold no 'plans_per_stage'")
    forward = content.get("transpose_forward")
    if forward is not None and _numbers(path, forward, "transpose_forward") != (0.0, 1.0, 2.0):
        _refuse(path, "they swap the image's axes, which is not supported")
    stage = _last_stage(path, content["plans_per_stage"])
    spacing = patch = None
    if stage.get("current_spacing") is not None:
        spacing = _numbers(path, stage["current_spacing"], "current_spacing")
        if min(spacing) < MIN_MILLIMETRES or max(spacing) > MAX_MILLIMETRES:
            _refuse(path, "their current_spacing is not positive, or not that of an image")
    if stage.get("patch_size") is not None:
        numbers = _numbers(path, stage["patch_size"], "patch_size")
        patch = int(numbers[0]), int(numbers[1]), int(numbers[2])
    preprocessor = content.get("preprocessor_name")
    if preprocessor is not None and not isinstance(preprocessor, str):
        _refuse(path, "their 'preprocessor_name' is not a name")
    properties = content.get("dataset_properties") or {}
    figures = properties.get("intensityproperties") if isinstance(properties, dict) else None
    return NnunetPlans(
        spacing=spacing,
        patch=patch,
        schemes={channel: str(scheme) for channel, scheme in _by_channel(path, content, "normalization_schemes")},
        masked={channel: bool(masked) for channel, masked in _by_channel(path, content, "use_mask_for_norm")},
        figures={
            channel: _figures(path, channel, entry)
            for channel, entry in _by_channel(path, {"intensityproperties": figures}, "intensityproperties")
        },
        preprocessor=preprocessor,
        export=_export(path, content.get("segmentation_export_params")),
    )


def _export(path: Path, settings: Any) -> Resampling:
    """How probabilities go back to the image's grid; nnU-Net's usual way where the plans do not say."""
    if settings is None:
        return _usual_export()
    try:
        return Resampling(
            order=settings["interpolation_order"],
            order_across=settings["interpolation_order_z"],
            separate=settings["force_separate_z"],
        )
    except (KeyError, TypeError, ValidationError):
        _refuse(path, "their 'segmentation_export_params' are malformed")


def _last_stage(path: Path, stages: Any) -> dict[str, Any]:
    """The stage of full resolution, which is the last one."""
    if isinstance(stages, dict) and stages and all(type(key) is int for key in stages):
        stage = stages[max(stages)]
    elif isinstance(stages, list) and stages:
        stage = stages[-1]
    else:
        stage = None
    if not isinstance(stage, dict):
        _refuse(path, "their 'plans_per_stage' are malformed")
    return stage


def _by_channel(path: Path, content: Mapping[str, Any], key: str) -> list[tuple[int, Any]]:
    entries = content.get(key)
    if entries is None:
        return []
    if not isinstance(entries, dict) or not all(type(channel) is int for channel in entries):
        _refuse(path, f"their '{key}' are malformed")
    return [(channel, entry) for channel, entry in entries.items() if entry is not None]


def _figures(path: Path, channel: int, entry: Any) -> IntensityStatistics:
    if not isinstance(entry, dict):
        _refuse(path, f"the intensity figures of channel {channel} are malformed")
    try:
        values = {
            ours: float(entry[theirs])
            for ours, theirs in (
                ("mean", "mean"),
                ("std", "sd"),
                ("percentile_00_5", "percentile_00_5"),
                ("percentile_99_5", "percentile_99_5"),
            )
        }
        figures = IntensityStatistics(**values)
    except ValidationError:
        _refuse(path, f"the intensity figures of channel {channel} are malformed, their values are impossible")
    except (KeyError, TypeError, ValueError):
        _refuse(path, f"the intensity figures of channel {channel} are malformed")
    if figures.percentile_00_5 >= figures.percentile_99_5:
        _refuse(path, f"the intensity figures of channel {channel} are impossible")
    return figures


def _numbers(path: Path, value: Any, name: str) -> tuple[float, float, float]:
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple) or len(items) != 3:
        _refuse(path, f"their '{name}' is not three numbers")
    if not all(isinstance(item, int | float) and math.isfinite(item) for item in items):
        _refuse(path, f"their '{name}' is not three numbers")
    return float(items[0]), float(items[1]), float(items[2])


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInputError(f"{path}: not usable as plans, because {reason}; give the right plans, or import without them.")
