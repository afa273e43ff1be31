"""Model folders as nnU-Net writes them: five small models, with random and with briefly trained weights.

Runs in the environment of nnU-Net (see README.md). The trainer is nnU-Net's own, so that folder, plans and checkpoint
are what a user has; only the data loading is left out: a few steps on synthetic images replace the epochs.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

SCRATCH = Path(tempfile.mkdtemp(prefix="nnunet-"))
os.environ.update({f"nnUNet_{name}": str(SCRATCH / name) for name in ("raw", "preprocessed", "results")})
os.environ.update({"nnUNet_compile": "false"})

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as trainer_module  # noqa: E402, N813

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "tests" / "core" / "importers"))

from nnunet_samples import sample_case  # noqa: E402

STEPS = {"plain-2d": 400, "plain-3d-anisotropic": 300, "residual-3d": 160, "two-channels-masked": 80, "regions": 80}
CT = {"max": 1500.0, "mean": 60.0, "median": 50.0, "min": -900.0}
CT |= {"percentile_00_5": -150.0, "percentile_99_5": 320.0, "std": 110.0}


def _resampling(order: int) -> dict[str, Any]:
    return {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}


def _configuration(
    patch: tuple[int, ...], spacing: tuple[float, ...], schemes: list[str], masks: list[bool]
) -> dict[str, Any]:
    return {
        "data_identifier": "nnUNetPlans_small",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [float(size) for size in patch],
        "spacing": list(spacing),
        "normalization_schemes": schemes,
        "use_mask_for_norm": masks,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": _resampling(3),
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": _resampling(1),
        "batch_dice": False,
    }


def _architecture(
    residual: bool, features: list[int], kernels: list[list[int]], strides: list[list[int]], blocks: list[int]
) -> dict[str, Any]:
    dimension, stages = len(kernels[0]), len(features)
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": features,
            "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_blocks_per_stage" if residual else "n_conv_per_stage": blocks,
            "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _plans(
    name: str, configuration: str, settings: dict[str, Any], transpose: tuple[int, int, int], channels: int
) -> dict[str, Any]:
    return {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 1.0, 1.0],
        "original_median_shape_after_transp": [30, 80, 80],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "configurations": {configuration: settings},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): CT for channel in range(channels)},
    }


def plain_2d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """2D on slices, plans of the old style, z-score."""
    settings = _configuration((64, 48), (1.1, 0.9), ["ZScoreNormalization"], [False])
    settings |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 24,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2],
        "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
        "conv_kernel_sizes": [[3, 3], [3, 3], [3, 3]],
    }
    dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "ball": 1, "shell": 2}}
    return _plans("Dataset901_Slices", "2d", settings, (0, 1, 2), 1), dataset, "2d"


def plain_3d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """3D with anisotropic kernels and spacing, CT, swapped axes."""
    settings = _configuration((12, 40, 32), (3.5, 1.0, 1.1), ["CTNormalization"], [False])
    settings["architecture"] = _architecture(
        False, [8, 16, 24], [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [2, 2, 2]
    )
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1, "shell": 2, "box": 3}}
    return _plans("Dataset902_Anisotropic", "3d_fullres", settings, (0, 2, 1), 1), dataset, "3d_fullres"


def residual_3d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """3D residual encoder, nearly isotropic, low resolution."""
    settings = _configuration((24, 32, 32), (1.5, 1.5, 1.5), ["ZScoreNormalization"], [False])
    settings["architecture"] = _architecture(
        True, [8, 16, 24], [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]], [1, 2, 2]
    )
    dataset = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "ball": 1}}
    return _plans("Dataset903_Residual", "3d_lowres", settings, (0, 1, 2), 1), dataset, "3d_lowres"


def masked_3d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """Two channels with z-score inside the mask of what is not zero; two folds; axes brought to the front."""
    settings = _configuration((16, 32, 32), (2.0, 1.2, 1.2), ["ZScoreNormalization"] * 2, [True, True])
    settings["architecture"] = _architecture(
        False, [8, 12, 16], [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [1, 2, 2]], [2, 2, 2]
    )
    dataset = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "ball": 1, "shell": 2}}
    return _plans("Dataset904_Masked", "3d_fullres", settings, (1, 0, 2), 2), dataset, "3d_fullres"


def regions_3d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """Overlapping regions with an order of their own, and a label to be ignored."""
    settings = _configuration((16, 32, 32), (2.0, 1.2, 1.2), ["ZScoreNormalization"], [False])
    settings["architecture"] = _architecture(
        False, [8, 12, 16], [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]], [1, 2, 1]
    )
    labels = {"background": 0, "all": [1, 2], "core": [2], "ignore": 3}
    dataset = {"channel_names": {"0": "FLAIR"}, "labels": labels, "regions_class_order": [1, 2]}
    return _plans("Dataset905_Regions", "3d_fullres", settings, (0, 1, 2), 1), dataset, "3d_fullres"


def paper_3d() -> tuple[dict[str, Any], dict[str, Any], str]:
    """As wide as nnU-Net plans 3D networks, for timing: CT, 13 organs, patch 32 x 96 x 96."""
    settings = _configuration((32, 96, 96), (3.0, 2.4, 2.4), ["CTNormalization"], [False])
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    kernels = [[1, 3, 3], *[[3, 3, 3]] * 4]
    settings["architecture"] = _architecture(False, [32, 64, 128, 256, 320], kernels, strides, [2] * 5)
    labels = {"background": 0, **{f"organ{label}": label for label in range(1, 14)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels}
    return _plans("Dataset906_Organs", "3d_fullres", settings, (0, 1, 2), 1), dataset, "3d_fullres"


MODELS: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any], str]]] = {
    "plain-2d": plain_2d,
    "plain-3d-anisotropic": plain_3d,
    "residual-3d": residual_3d,
    "two-channels-masked": masked_3d,
    "regions": regions_3d,
}
SPEED = {"paper-3d": paper_3d}
FOLDS = {"two-channels-masked": 2}


def make(name: str, target: Path, trained: bool, widths: list[int] | None = None) -> Path:
    """The folder ``TRAINER__PLANS__CONFIGURATION`` of the model ``name`` below ``target`` with these widths."""
    plans, dataset, configuration = (MODELS | SPEED)[name]()
    dataset |= {"numTraining": 8, "file_ending": ".nii.gz", "name": plans["dataset_name"]}
    if widths is not None:
        narrow(plans["configurations"][configuration], widths)
    folder = target / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    shutil.rmtree(folder, ignore_errors=True)
    for fold in range(FOLDS.get(name, 1)):
        torch.manual_seed(7 * fold + len(name))
        trainer = _trainer(json.loads(json.dumps(plans)), configuration, fold, dataset)
        if trained:
            _train(trainer, len(dataset["channel_names"]), STEPS[name])
        else:
            _disturb(trainer.network)
        place = folder / f"fold_{fold}"
        place.mkdir(parents=True)
        trainer.save_checkpoint(str(place / "checkpoint_final.pth"))
    (folder / "plans.json").write_text(json.dumps(plans, indent=1))
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    return folder


def narrow(settings: dict[str, Any], widths: list[int]) -> None:
    """Give the network of a configuration other widths."""
    if "architecture" in settings:
        settings["architecture"]["arch_kwargs"]["features_per_stage"] = widths
    else:
        settings |= {"UNet_base_num_features": widths[0], "unet_max_num_features": widths[-1]}


def _trainer(plans: dict[str, Any], configuration: str, fold: int, dataset: dict[str, Any]) -> Any:
    """nnU-Net's trainer, ready to train, without a preprocessed data set."""
    trainer_module.infer_dataset_class = lambda _: None
    plans["continue_training"] = False
    trainer = trainer_module.nnUNetTrainer(plans, configuration, fold, dataset, device=torch.device("cpu"))
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    for key in ("train_losses", "val_losses", "mean_fg_dice"):
        trainer.logger.log(key, np.float32(0.5), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float64(0.25), np.float32(0.5)], 0)
    return trainer


def _disturb(network: torch.nn.Module) -> None:
    """Norms and biases of fresh networks are trivial, and would hide what was mixed up."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)


def _train(trainer: Any, channels: int, steps: int) -> None:
    """A few steps of nnU-Net's own loss on small images of nested balls, normalised as the plans say."""
    network, loss, settings = trainer.network.train(), trainer.loss, trainer.configuration_manager
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)  # the trainer's own needs many more steps
    ct = settings.normalization_schemes[0] == "CTNormalization"
    patch, spacing = tuple(settings.patch_size), tuple(settings.spacing)
    lead, thick = (1,) * (3 - len(patch)), (40.0,) * (3 - len(patch))  # of a slice: all of it in the balls
    regions = trainer.label_manager.foreground_regions if trainer.label_manager.has_regions else None
    most = max(trainer.label_manager.foreground_labels)
    for step in range(steps):
        image, label = sample_case((*lead, *patch), (*thick, *spacing), channels=channels, ct=ct, seed=100 + step)
        image = image.astype(np.float32)
        if ct:
            image = (image.clip(CT["percentile_00_5"], CT["percentile_99_5"]) - CT["mean"]) / CT["std"]
        else:
            image = (image - image.mean((1, 2, 3), keepdims=True)) / image.std((1, 2, 3), keepdims=True)
        data = torch.from_numpy(image).reshape(1, channels, *patch)
        target = torch.from_numpy(label.clip(max=most)).reshape(1, 1, *patch)
        if regions is not None:
            parts = [torch.isin(target, torch.tensor(np.atleast_1d(region))) for region in regions]
            target = torch.cat([*parts, torch.zeros_like(parts[0])], 1).float()  # the last: what is to be ignored
        outputs = network(data)
        targets = [torch.nn.functional.interpolate(target.float(), out.shape[2:]) for out in outputs]
        optimizer.zero_grad()
        loss(outputs, targets).backward()
        optimizer.step()


def main() -> None:
    """``python models.py TARGET [NAME...]``: makes models, and prints one JSON line for each."""
    for name in sys.argv[2:] or MODELS:
        for trained in (False,) if name in SPEED else (False, True):
            weights = "trained" if trained else "random"
            plans, dataset, configuration = (MODELS | SPEED)[name]()
            target = Path(sys.argv[1]) / weights / name
            folder = target / f"nnUNetTrainer__nnUNetPlans__{configuration}"
            if not (folder / "dataset.json").is_file():  # written last
                make(name, target, trained)
            schemes = plans["configurations"][configuration]["normalization_schemes"]
            facts = {"folder": str(folder), "name": name, "weights": weights, "channels": len(dataset["channel_names"])}
            print(json.dumps({**facts, "ct": schemes[0] == "CTNormalization"}), flush=True)


if __name__ == "__main__":
    main()
