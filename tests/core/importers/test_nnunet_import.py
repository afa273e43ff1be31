"""The import of nnU-Net v2's model folders: the network, the plan, and what is refused.

``models`` holds small folders that nnU-Net 2.8.1 wrote, with what it answered (benchmarks/peers/nnunet/fixtures.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_samples import sample_window

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.importers import NnunetOptions, import_nnunet
from meduniseg_core.importers.nnunet import _TRAINER
from meduniseg_core.model import UNet, UNetConfig, UNetEnsemble, build_model
from meduniseg_core.weights import Registry, read_model, save_model

MODELS = Path(__file__).parent / "models"
NAMES = sorted(path.name for path in MODELS.iterdir())
OPTIONS = NnunetOptions(name="small")
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the 3D model, to be changed."""
    return Path(shutil.copytree(MODELS / "plain-3d-anisotropic", tmp_path / "model"))


def edited(path: Path, edit: Edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def checkpoint(folder: Path, fold: str = "0") -> Path:
    return folder / f"fold_{fold}" / "checkpoint_final.pth"


def edited_checkpoint(path: Path, edit: Edit) -> None:
    from meduniseg_core.importers.torch_archive import read_checkpoint

    content = read_checkpoint(path)
    edit(content)
    torch.save(content, path)


@pytest.mark.parametrize("name", NAMES)
def test_network_answers_as_nnunet_s(name: str) -> None:
    imported = import_nnunet(MODELS / name, OPTIONS)
    network = build_model(imported.info.config)
    assert isinstance(network, UNetEnsemble)
    network.load_state_dict(imported.state_dict)
    config, plan = network.config, imported.info.tasks[0]
    shape = plan.patch[1:] if config.dimension == 2 else plan.patch
    window = torch.from_numpy(sample_window(shape, config.channels)).reshape(1, config.channels, *plan.patch)
    with torch.inference_mode():
        logits = network.eval().parts[0](window)[0].numpy()
    logits = logits[:, 0] if config.dimension == 2 else logits
    thinned = logits[(slice(None), *[slice(None, None, 3)] * (logits.ndim - 1))]
    with np.load(MODELS / name / "expected.npz") as expected:
        assert np.abs(thinned - expected["logits"]).max() < 1e-4


def test_plan_says_everything() -> None:
    plan = import_nnunet(MODELS / "plain-3d-anisotropic", OPTIONS).info.tasks[0]
    assert plan.task == "anisotropic" and plan.modality == "ct" and plan.dimension == 3
    assert plan.classes == ("ball", "shell", "box") and plan.channels == ("CT",)
    assert plan.spacing == (3.5, 1.0, 1.1) and plan.patch == (12, 40, 32)
    assert plan.normalisation == ("ct",) and plan.figures[0] is not None and plan.figures[0].std == 110
    assert plan.mirror_axes == (0, 1, 2)
    assert plan.scheme is not None and plan.scheme.transpose == (0, 2, 1) and plan.scheme.region_labels is None
    assert (plan.scheme.image_resampling.order, plan.scheme.logit_resampling.order) == (3, 1)
    assert plan.scheme.image_resampling.separate is None


def test_plans_of_the_old_style_in_2d() -> None:
    info = import_nnunet(MODELS / "plain-2d", OPTIONS).info
    assert isinstance(info.config, UNetConfig) and info.config.dimension == 2
    assert info.config.kernels == ((1, 3, 3),) * 3 and info.config.total_stride == (1, 4, 4)
    assert info.tasks[0].mirror_axes == (1, 2) and info.tasks[0].patch == (1, 64, 48)


def test_regions_keep_their_order_and_ignore_is_no_class() -> None:
    plan = import_nnunet(MODELS / "regions", OPTIONS).info.tasks[0]
    assert plan.classes == ("all", "core") and plan.region_labels == (1, 2)
    assert plan.outputs == 2 and plan.class_count == 3


def test_mask_for_normalisation_and_two_folds() -> None:
    info = import_nnunet(MODELS / "two-channels-masked", OPTIONS).info
    assert info.tasks[0].normalisation == ("zscore_nonzero", "zscore_nonzero")
    assert info.config.members == 2 and info.provenance["folds"] == ["0", "1"]  # type: ignore[union-attr]


def test_ensemble_averages_logits_and_folds_can_be_chosen(tmp_path: Path) -> None:
    both = import_nnunet(MODELS / "two-channels-masked", OPTIONS)
    second = import_nnunet(MODELS / "two-channels-masked", NnunetOptions(name="one", folds=("1",)))
    network = build_model(both.info.config).eval()
    alone = build_model(second.info.config).eval()
    network.load_state_dict(both.state_dict)
    alone.load_state_dict(second.state_dict)
    assert isinstance(network, UNetEnsemble) and isinstance(alone, UNetEnsemble)
    window = torch.randn(1, 2, 16, 32, 32)
    with torch.inference_mode():
        first, other = (member(window) for member in network.parts)
        assert torch.equal(other, alone(window))
        assert torch.allclose(network(window), (first + other) / 2, atol=1e-6)


def test_model_file_keeps_it_all(tmp_path: Path) -> None:
    imported = import_nnunet(MODELS / "residual-3d", OPTIONS)
    save_model(tmp_path / "small.safetensors", imported.info, imported.state_dict)
    model = read_model(tmp_path / "small.safetensors")
    assert model.info == imported.info and isinstance(model.network, UNetEnsemble)
    assert all(torch.equal(value, imported.state_dict[name]) for name, value in model.network.state_dict().items())
    with pytest.raises(UsageError, match="imported U-Net"):
        _ = model.universal_network


def test_fold_all_is_that_fold_where_there_is_one(folder: Path) -> None:
    shutil.copytree(folder / "fold_0", folder / "fold_all")
    every = NnunetOptions(name="small", folds=("all",))
    assert import_nnunet(folder, every).info.provenance["folds"] == ["all"]
    assert import_nnunet(folder, OPTIONS).info.provenance["folds"] == ["0"]
    shutil.rmtree(folder / "fold_all")
    assert import_nnunet(folder, every).info.provenance["folds"] == ["0"]


def test_deep_supervision_and_compiling_leave_no_trace(folder: Path) -> None:
    def compiled(content: dict[str, Any]) -> None:
        weights = content["network_weights"]
        content["network_weights"] = {f"_orig_mod.{name}": value for name, value in weights.items()}

    before = import_nnunet(folder, OPTIONS).state_dict
    edited_checkpoint(checkpoint(folder), compiled)
    after = import_nnunet(folder, OPTIONS).state_dict
    assert before.keys() == after.keys() and sum("head" in name for name in after) == 2


def in_configuration(edit: Edit) -> Edit:
    return lambda plans: edit(plans["configurations"]["3d_fullres"])


def in_network(**changes: Any) -> Edit:
    return in_configuration(lambda c: c["architecture"]["arch_kwargs"].update(changes))


REFUSED_PLANS: dict[str, tuple[Edit, str]] = {
    "a cascade": (in_configuration(lambda c: c.update(previous_stage="3d_lowres")), "second stage of a cascade"),
    "another network": (
        in_configuration(lambda c: c["architecture"].update(network_class_name="some.where.SwinUNETR")),
        "its network is 'SwinUNETR'",
    ),
    "batch norm": (in_network(norm_op="torch.nn.BatchNorm3d"), "BatchNorm3d for norm_op"),
    "another activation": (in_network(nonlin="torch.nn.GELU"), "activated by GELU"),
    "norm after activation": (in_network(nonlin_first=True), "'nonlin_first' set to True"),
    "a kernel that is even": (in_network(kernel_sizes=2), "kernels have odd sizes"),
    "other widths than the weights'": (in_network(features_per_stage=[4, 6, 10]), "has shape"),
    "fewer stages than the weights": (
        in_network(n_stages=2, features_per_stage=4, kernel_sizes=3, strides=1, n_conv_per_stage=2),
        "cannot be imported",
    ),
    "absurd widths": (in_network(features_per_stage=10**9), "impossible sizes"),
    "no stages": (in_network(n_stages="many"), "stages is missing or impossible"),
    "another preprocessor": (in_configuration(lambda c: c.update(preprocessor_name="MyOwn")), "prepared by 'MyOwn'"),
    "another resampling": (in_configuration(lambda c: c.update(resampling_fn_data="mine")), "resamples by 'mine'"),
    "impossible resampling": (
        in_configuration(lambda c: c["resampling_fn_data_kwargs"].update(order=9)),
        "settings of its resampling",
    ),
    "another normalisation": (
        in_configuration(lambda c: c.update(normalization_schemes=["Mine"])),
        "normalises by 'Mine'",
    ),
    "more channels": (in_configuration(lambda c: c.update(normalization_schemes=["NoNormalization"] * 2)), "2 channel"),
    "spacing that cannot be": (in_configuration(lambda c: c.update(spacing=[0, 1, 1])), "no model can be made"),
    "patch of other axes": (in_configuration(lambda c: c.update(patch_size=[12, 40])), "do not belong together"),
    "another reader": (lambda p: p.update(image_reader_writer="Mine"), "read by 'Mine'"),
    "another label manager": (lambda p: p.update(label_manager="Mine"), "labels are read by 'Mine'"),
    "no configurations": (lambda p: p.pop("configurations"), "wrong at 'configurations'"),
    "axes that are none": (lambda p: p.update(transpose_forward=[0, 0, 1]), "is not an order of three axes"),
    "inheritance in a circle": (in_configuration(lambda c: c.update(inherits_from="3d_fullres")), "in a circle"),
}


@pytest.mark.parametrize("case", REFUSED_PLANS)
def test_refused_plans(folder: Path, case: str) -> None:
    edit, reason = REFUSED_PLANS[case]
    edited(folder / "plans.json", edit)
    with pytest.raises((BadInputError, UsageError)) as refusal:
        import_nnunet(folder, OPTIONS)
    text = str(refusal.value)
    assert reason in text and str(folder) in text and text.endswith(".") and "\n" not in text


REFUSED_DATASETS: dict[str, tuple[Edit, str]] = {
    "no channels": (lambda d: d.pop("channel_names"), "names no channels"),
    "gaps between labels": (lambda d: d["labels"].update(box=7), "without gaps"),
    "no background": (lambda d: d["labels"].update(background=1), "background is not label 0"),
    "regions without an order": (lambda d: d["labels"].update(box=[1, 2]), "regions_class_order"),
    "labels that are texts": (lambda d: d["labels"].update(box="three"), r"wrong at 'labels.box' \(a label is a whole"),
    "labels as v1 wrote them": (lambda d: d.update(labels={"0": "background", "1": "ball"}), "wrong at 'labels.0'"),
    "half a label": (lambda d: d["labels"].update(box=2.5), "a label is a whole number from 0 to 65535"),
    "an infinite label": (lambda d: d["labels"].update(box=float("inf")), "wrong at 'labels.box'"),
    "a label beyond 16 bits": (lambda d: d["labels"].update(box=65536), "wrong at 'labels.box'"),
    "a label that is true": (lambda d: d["labels"].update(box=True), "wrong at 'labels.box'"),
    "regions of regions": (lambda d: d["labels"].update(box=[[1], [2]]), "a region is a list of labels"),
}


@pytest.mark.parametrize("case", REFUSED_DATASETS)
def test_refused_datasets(folder: Path, case: str) -> None:
    edit, reason = REFUSED_DATASETS[case]
    edited(folder / "dataset.json", edit)
    with pytest.raises(BadInputError, match=reason):
        import_nnunet(folder, OPTIONS)


@pytest.mark.parametrize("background", ["0", 0.0, [0]])
def test_labels_that_nnunet_takes_for_whole_numbers(folder: Path, background: object) -> None:
    before = import_nnunet(folder, OPTIONS).info.tasks
    edited(folder / "dataset.json", lambda d: d["labels"].update(background=background, ball="1", shell=2.0, box=[3]))
    assert import_nnunet(folder, OPTIONS).info.tasks == before


def test_a_folder_of_nnunet_v1_is_called_that(folder: Path) -> None:
    (folder / "plans.json").rename(folder / "plans.pkl")
    with pytest.raises(BadInputError, match=r"nnU-Net v1 wrote it \(plans.pkl\); only models of nnU-Net v2"):
        import_nnunet(folder, OPTIONS)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


REFUSED_CHECKPOINTS: dict[str, tuple[Edit, str]] = {
    "code": (lambda c: c.update(logging=Evil()), "asks for '__builtin__.eval'"),
    "a trainer of somebody's": (lambda c: c.update(trainer_name="nnUNetTrainerMamba"), "nnUNetTrainerMamba"),
    "nnU-Net's trainer with batch norm": (lambda c: c.update(trainer_name="nnUNetTrainerBN"), "nnUNetTrainerBN"),
    "no trainer": (lambda c: c.pop("trainer_name"), "does not say its trainer"),
    "no configuration": (lambda c: c.pop("init_args"), "does not say its trainer"),
    "axes that are none": (lambda c: c.update(inference_allowed_mirroring_axes=(3,)), "mirroring axes"),
    "no weights": (lambda c: c.pop("network_weights"), "no 'network_weights'"),
    "a tensor too many": (lambda c: c["network_weights"].update(extra=torch.ones(2)), "no place in the network"),
    "a tensor too few": (
        lambda c: [c["network_weights"].pop(n) for n in list(c["network_weights"]) if "transpconvs.0" in n],
        "are missing",
    ),
    "NaN": (lambda c: c["network_weights"]["decoder.transpconvs.0.bias"].fill_(float("nan")), "NaN"),
    "an unknown configuration": (lambda c: c["init_args"].update(configuration="4d"), "is not there"),
}


@pytest.mark.parametrize("case", REFUSED_CHECKPOINTS)
def test_refused_checkpoints(folder: Path, case: str) -> None:
    edit, reason = REFUSED_CHECKPOINTS[case]
    edited_checkpoint(checkpoint(folder), edit)
    with pytest.raises(BadInputError, match=reason):
        import_nnunet(folder, OPTIONS)


def test_a_trainer_can_be_vouched_for(folder: Path) -> None:
    edited_checkpoint(checkpoint(folder), lambda c: c.update(trainer_name="nnUNetTrainerMine"))
    options = NnunetOptions(name="small", any_trainer=True)
    assert import_nnunet(folder, options).info.provenance["trainer"] == "nnUNetTrainerMine"


@pytest.mark.parametrize(
    ("trainer", "known"),
    [
        ("nnUNetTrainer", True),
        ("nnUNetTrainer_250epochs_NoMirroring", True),
        ("nnUNetTrainer_onlyMirror01_1500ep", True),
        ("nnUNetTrainerDA5Segord0", True),
        ("nnUNetTrainerVanillaAdam3en4", True),
        ("nnUNetTrainer_DASegOrd0_NoMirroring", True),
        ("nnUNetTrainerBN", False),
        ("nnUNet_Primus_M_Trainer", False),
        ("nnUNetTrainerUMambaBot", False),
    ],
)
def test_which_trainers_are_known(trainer: str, known: bool) -> None:
    assert bool(_TRAINER.fullmatch(trainer)) == known


def test_folds_that_do_not_belong_together(folder: Path) -> None:
    shutil.copytree(folder / "fold_0", folder / "fold_1")
    edited_checkpoint(checkpoint(folder, "1"), lambda c: c.update(inference_allowed_mirroring_axes=(0,)))
    with pytest.raises(BadInputError, match="not the other folds'"):
        import_nnunet(folder, OPTIONS)


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds no plans\.json"):
        import_nnunet(folder / "fold_0", OPTIONS)
    with pytest.raises(BadInputError, match="is not a folder"):
        import_nnunet(tmp_path / "absent", OPTIONS)
    with pytest.raises(UsageError, match="fold '4'"):
        import_nnunet(folder, NnunetOptions(name="small", folds=("0", "4")))
    with pytest.raises(BadInputError, match="--checkpoint final"):
        import_nnunet(folder, NnunetOptions(name="small", checkpoint="best"))
    (folder / "plans.json").write_text("[" * 100_000)
    with pytest.raises(BadInputError, match="not JSON"):
        import_nnunet(folder, OPTIONS)


@pytest.mark.parametrize("names", [{"name": "a/b"}, {"name": "small", "task": "left kidney"}])
def test_names_that_cannot_be_are_refused_in_plain_words(folder: Path, names: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"a name is of letters, digits, '_', '.' and '-', and begins with a letter"):
        import_nnunet(folder, NnunetOptions.model_validate(names))


def test_channels_that_say_no_modality_are_said(folder: Path) -> None:
    edited(folder / "dataset.json", lambda d: d.update(channel_names={"0": "noNorm"}))
    edited(folder / "plans.json", in_configuration(lambda c: c.update(normalization_schemes=["NoNormalization"])))
    events: list[Event] = []
    assert import_nnunet(folder, OPTIONS, events=events.append).info.tasks[0].modality == "other"
    assert any("--modality" in event.text for event in events if isinstance(event, Message))
    named = NnunetOptions(name="small", modality="mri")
    assert import_nnunet(folder, named).info.tasks[0].modality == "mri"


def test_registry_lists_it(folder: Path, tmp_path: Path) -> None:
    imported = import_nnunet(folder, OPTIONS)
    registry = Registry(tmp_path / "models")
    registry.save(imported.info, imported.state_dict)
    assert registry.load("small").info.tasks[0].task == "anisotropic"


def test_a_network_without_affine_norms_or_with_relu(folder: Path) -> None:
    edited(folder / "plans.json", in_network(norm_op_kwargs={"eps": 1e-3}, nonlin="torch.nn.ReLU"))
    edited_checkpoint(
        checkpoint(folder),
        lambda c: [c["network_weights"].pop(name) for name in list(c["network_weights"]) if ".norm." in name],
    )
    edited_checkpoint(
        checkpoint(folder),
        lambda c: [
            c["network_weights"].pop(name)
            for name, value in list(c["network_weights"].items())
            if "all_modules.1." in name and value.dim() == 1
        ],
    )
    imported = import_nnunet(folder, OPTIONS)
    config = imported.info.config
    assert isinstance(config, UNetConfig) and (config.norm_epsilon, config.negative_slope) == (1e-3, 0.0)
    assert imported.state_dict["members.0.stages.0.0.norm.weight"].eq(1).all()


def test_unet_takes_any_size_that_its_strides_divide() -> None:
    config = UNetConfig(
        encoder="residual",
        dimension=3,
        channels=1,
        classes=2,
        features=(2, 3, 4),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        encoder_blocks=(1, 2, 3),
        decoder_blocks=(1, 2),
    )
    assert UNet(config)(torch.zeros(2, 1, 6, 8, 12)).shape == (2, 2, 6, 8, 12)
