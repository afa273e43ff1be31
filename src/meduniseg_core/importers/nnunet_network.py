"""nnU-Net v2's networks: translates their plans to a `UNetConfig` and their tensors' names to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from meduniseg_core.importers.nnunet_plans import Architecture, Configuration, refuse
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.validation import place_and_fault
from meduniseg_core.weights.model_file import expected_shapes, has_sane_sizes

_ENCODERS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_MAX_STAGES = 32
# what may stand beside what is read; another value than these changes the network
_INERT: Mapping[str, tuple[Any, ...]] = {
    "nonlin_first": (False,),
    "deep_supervision": (True, False),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
}
_READ = {
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "norm_op",
    "norm_op_kwargs",
    "dropout_op",  # does nothing once a network is trained
    "dropout_op_kwargs",
    "nonlin",
    "nonlin_kwargs",
}


def network_of(folder: Path, configuration: Configuration, channels: int, outputs: int, members: int) -> UNetConfig:
    """Read the network that the plans describe.

    Args:
        folder: the model folder, for error messages.
        configuration: the configuration from the plans.
        channels: number of image channels.
        outputs: number of the network's outputs.
        members: number of networks of this shape (folds).

    Returns:
        The architecture.

    Raises:
        BadInputError: the network cannot be built here, or its description is impossible.
    """
    architecture = configuration.architecture or _old_style(folder, configuration)
    name = architecture.network_class_name.rpartition(".")[2]
    encoder = _ENCODERS.get(name)
    if encoder is None:
        known = " and ".join(_ENCODERS)
        refuse(folder, f"its network is '{name:.60}'", f"only {known} can be imported")
    settings = architecture.arch_kwargs
    for key, value in settings.items():
        if key not in _READ and value not in _INERT.get(key, ()):
            refuse(folder, f"its network has '{key:.40}' set to {value!r:.40}, which this program does not build")
    dimension = len(configuration.patch_size)
    _check_layers(folder, settings, dimension)
    stages = settings.get("n_stages")
    if type(stages) is not int or not 2 <= stages <= _MAX_STAGES:
        refuse(folder, "the number of its network's stages is missing or impossible")
    blocks = settings.get("n_blocks_per_stage" if encoder == "residual" else "n_conv_per_stage")
    try:
        config = UNetConfig.model_validate(
            {
                "encoder": encoder,
                "dimension": dimension,
                "channels": channels,
                "classes": outputs,
                "features": _per_stage(settings.get("features_per_stage"), stages),
                "kernels": _axes_per_stage(settings.get("kernel_sizes"), stages, dimension),
                "strides": _axes_per_stage(settings.get("strides"), stages, dimension),
                "encoder_blocks": _per_stage(blocks, stages),
                "decoder_blocks": _per_stage(settings.get("n_conv_per_stage_decoder"), stages - 1),
                "bias": settings.get("conv_bias", False),
                "norm_epsilon": _kwargs(folder, settings, "norm_op_kwargs").get("eps", 1e-5),
                "negative_slope": _slope(folder, settings),
                "members": members,
            }
        )
    except ValidationError as error:
        place, fault = place_and_fault(error)
        refuse(folder, f"its network cannot be ({place:.60}: {fault:.100})")
    if not has_sane_sizes(config):
        refuse(folder, "its network has impossible sizes")
    return config


def _old_style(folder: Path, plans: Configuration) -> Architecture:
    """The architecture from plans before nnU-Net 2.4, which have the same facts under other names and the rest by
    convention."""
    name, convs = plans.UNet_class_name, plans.n_conv_per_stage_encoder
    base, most = plans.UNet_base_num_features, plans.unet_max_num_features
    if name is None or base is None or most is None or not isinstance(convs, list) or len(convs) > _MAX_STAGES:
        refuse(folder, "its plans describe no network")
    dimension = len(plans.patch_size)
    return Architecture(
        network_class_name=name,
        arch_kwargs={
            "n_stages": len(convs),
            "features_per_stage": [min(base * 2**stage, most) for stage in range(len(convs))],
            "conv_op": f"Conv{dimension}d",
            "kernel_sizes": plans.conv_kernel_sizes,
            "strides": plans.pool_op_kernel_sizes,
            "n_blocks_per_stage" if name == "ResidualEncoderUNet" else "n_conv_per_stage": convs,
            "n_conv_per_stage_decoder": plans.n_conv_per_stage_decoder,
            "conv_bias": True,
            "norm_op": f"InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "LeakyReLU",
        },
    )


def _check_layers(folder: Path, settings: Mapping[str, Any], dimension: int) -> None:
    for key, wanted in (("conv_op", f"Conv{dimension}d"), ("norm_op", f"InstanceNorm{dimension}d")):
        found = str(settings.get(key)).rpartition(".")[2]
        if found != wanted:
            refuse(folder, f"its network has {found:.40} for {key}, and only {wanted} is built here")


def _kwargs(folder: Path, settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = settings.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(folder, f"its network's {key} is not a list of settings")
    return value


def _slope(folder: Path, settings: Mapping[str, Any]) -> Any:
    name = str(settings.get("nonlin")).rpartition(".")[2]
    if name == "ReLU":
        return 0.0
    if name != "LeakyReLU":
        refuse(folder, f"its network is activated by {name:.40}, and only LeakyReLU and ReLU are built here")
    return _kwargs(folder, settings, "nonlin_kwargs").get("negative_slope", 0.01)


def _per_stage(value: Any, stages: int) -> Any:
    return [value] * stages if isinstance(value, int) else value


def _axes_per_stage(value: Any, stages: int, dimension: int) -> Any:
    """Sizes along (D, H, W) per stage; a number stands for all axes, and for all stages."""
    entries = _per_stage(value, stages)
    if not isinstance(entries, list):
        return entries
    result = []
    for entry in entries:
        sizes = [entry] * dimension if isinstance(entry, int) else entry
        result.append([1, *sizes] if dimension == 2 and isinstance(sizes, list) else sizes)
    return result


# nnU-Net's names of tensors, and ours
_NAMES: tuple[tuple[str, str], ...] = (
    (r"encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)", r"stem.\1.\2"),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)", r"stages.\1.\2.\3.\4"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.(conv|norm)\.(\w+)", r"stages.\1.\2.first.\3.\4"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.(conv|norm)\.(\w+)", r"stages.\1.\2.second.\3.\4"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.[01]\.(conv|norm)\.(\w+)", r"stages.\1.\2.projection.\3.\4"),
    (r"decoder\.transpconvs\.(\d+)\.(\w+)", r"ups.\1.\2"),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(\w+)", r"levels.\1.\2.\3.\4"),
)
_HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(\w+)")
# the same tensors under a second name: the encoder as a part of the decoder, the layers of a block in their order
_TWINS = re.compile(r"decoder\.encoder\..*|.*\.all_modules\..*")


def our_name_of_nnunet(original: str, levels: int) -> str | None:
    """Translate the name of a tensor.

    Args:
        original: nnU-Net's name.
        levels: number of decoder levels. The last level's head is the network's; the others serve deep supervision.

    Returns:
        Our name; an empty string for a tensor that inference does not need, None for one that none of our networks has.
    """
    if _TWINS.fullmatch(original):
        return ""
    head = _HEAD.fullmatch(original)
    if head:
        return f"head.{head[2]}" if int(head[1]) == levels - 1 else ""
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, original)
        if match:
            return match.expand(ours)
    return None


def translate(path: Path, state: Mapping[str, Tensor], config: UNetConfig, affine: bool = True) -> dict[str, Tensor]:
    """Rename the tensors of one network and check each.

    Args:
        path: the checkpoint, for error messages.
        state: its tensors by nnU-Net's names.
        config: the network that they must fit.
        affine: False if its norms have no weights; these become 1 and 0.

    Returns:
        The tensors of one member by our names.

    Raises:
        BadInputError: a tensor is missing, unexpected, of another shape or not finite.
    """
    prefix = "members.0."
    expected = {
        name.removeprefix(prefix): shape
        for name, shape in expected_shapes(config.model_copy(update={"members": 1})).items()
    }
    remedy = "only networks that are what their plans say can be imported"
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = our_name_of_nnunet(name, len(config.decoder_blocks))
        if ours == "":
            continue
        if ours is None or ours not in expected:
            refuse(path, f"its tensor {name!r:.80} has no place in the network that the plans describe", remedy)
        if config.dimension == 2 and ours.endswith("weight") and tensor.dim() == 4:
            tensor = tensor.unsqueeze(2)
        if tuple(tensor.shape) != expected[ours]:
            shapes = f"{tuple(tensor.shape)} and the plans say {expected[ours]}"
            refuse(path, f"its tensor {name:.80} has shape {shapes}", remedy)
        if not bool(torch.isfinite(tensor).all()):
            refuse(path, f"its tensor {name:.80} holds NaN or infinite values", "train it again or take another fold")
        result[ours] = tensor
    if not affine:
        for name in expected.keys() - result.keys():
            if ".norm." in name:
                result[name] = (torch.ones if name.endswith("weight") else torch.zeros)(expected[name])
    missing = sorted(expected.keys() - result.keys())
    if missing:
        refuse(path, f"{len(missing)} tensors of the plans' network are missing, {missing[0]} for one", remedy)
    return result


def has_affine_norms(configuration: Configuration) -> bool:
    """Whether the norms have weights.

    Args:
        configuration: the configuration from the plans.

    Returns:
        True if they have; always for plans of the old style.
    """
    if configuration.architecture is None:
        return True
    return bool((configuration.architecture.arch_kwargs.get("norm_op_kwargs") or {}).get("affine", False))
