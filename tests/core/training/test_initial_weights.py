"""A universal training that takes from a file what fits: of this program's models, nnU-Net's, UniSeg's and MONAI's."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from monai.networks.nets import SegResNet, SwinUNETR
from torch import Tensor

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.importers import NnunetOptions, import_nnunet
from meduniseg_core.importers.foreign_weights import read_foreign_weights
from meduniseg_core.model import build_model
from meduniseg_core.model.config import ModelConfig, Stride
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.training import NetworkSettings, TrainingConfig, train
from meduniseg_core.training.initial_weights import InitialWeights, TransferReport
from meduniseg_core.weights import ModelInfo, load_model, save_model
from meduniseg_core.weights.load import find_model

MODELS = Path(__file__).parents[1] / "importers" / "models"
HALF: Stride = (2, 2, 2)


def network_for(features: tuple[int, ...], strides: tuple[Stride, ...], stems: tuple[int, ...] = (1,)) -> ModelConfig:
    return ModelConfig(
        features=features,
        strides=strides,
        stems=stems,
        classes=2,
        modalities=0,
        tasks=1,
        task_prompt_channels=4,
        task_prompt_size=(2, 2, 2),
    )


def loaded(source: Path, config: ModelConfig) -> tuple[TransferReport, dict[str, Tensor], dict[str, Tensor]]:
    """The report, the fresh weights and those after it."""
    torch.manual_seed(0)
    network = build_model(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start = InitialWeights(source, config.features, config.strides, config.method)
    start.load(network, ModelInfo.model_construct(tasks=(), modalities=()))
    assert start._report is not None
    return start._report, before, network.state_dict()


def same_direction(one: Tensor, other: Tensor) -> bool:
    """Equal up to a factor above 0: kernels before a norm are rescaled."""
    return bool(torch.allclose(one / one.norm(), other / other.norm(), atol=1e-5))


def checkpoint(folder: Path, state: dict[str, Tensor], **around: object) -> Path:
    path = folder / "weights.pt"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, **around}, path)
    return path


def settings_of(model: str) -> tuple[tuple[int, ...], tuple[Stride, ...]]:
    """Features and strides, as the importer reads them from nnU-Net's plans."""
    config = import_nnunet(MODELS / model, NnunetOptions(name="x")).info.config
    assert isinstance(config, UNetConfig)
    return config.features, config.strides[1:]


@pytest.mark.parametrize("model", ["plain-3d-anisotropic", "plain-2d"])
def test_nnunet_s_checkpoint_gives_encoder_and_decoder(model: str) -> None:
    path = MODELS / model / "fold_0" / "checkpoint_final.pth"
    theirs = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    features, strides = settings_of(model)
    channels = theirs["encoder.stages.0.0.convs.0.conv.weight"].shape[1]
    report, _, now = loaded(path, network_for(features, strides, (channels,)))
    assert report.layout == "nnU-Net v2"
    last = len(features) - 1
    for name, of in (
        (f"encoder.stages.{last}.1.conv.weight", f"encoder.stages.{last}.0.convs.1.conv.weight"),
        (f"decoder.levels.{last - 1}.blocks.1.conv.weight", f"decoder.stages.{last - 1}.convs.1.conv.weight"),
        (f"encoder.stems.{channels}.weight", "encoder.stages.0.0.convs.0.conv.weight"),
    ):
        if name in report.fresh:  # their kernel has another size there
            assert theirs[of].shape != now[name].shape
            continue
        kernel = theirs[of] if theirs[of].dim() == 5 else theirs[of].unsqueeze(2)
        assert same_direction(now[name][:, :, now[name].shape[2] // 2], kernel[:, :, kernel.shape[2] // 2])
    up = theirs["decoder.transpconvs.0.weight"]
    shared = now["decoder.levels.0.up.weight"][: len(up)]
    assert torch.equal(shared, up if up.dim() == 5 else up.unsqueeze(2).expand_as(shared))
    assert all(not weight.endswith("head.weight") for weight in {one.weight for one in report.taken})
    assert "deep supervision" in report.unused["decoder.seg_layers.0.weight"]
    assert {*(one.theirs for one in report.taken), *report.unused} == set(theirs)


def test_a_2d_kernel_treats_images_as_it_did(tmp_path: Path) -> None:
    flat, deep = (torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    state = {"encoder.stages.1.0.convs.1.conv.weight": flat, "encoder.stages.1.0.convs.0.conv.weight": deep}
    report, before, now = loaded(checkpoint(tmp_path, state), network_for((8, 8, 8), (HALF, HALF)))
    kernel = now["encoder.stages.1.1.conv.weight"]
    assert not kernel[:, :, [0, 2]].any() and same_direction(kernel[:, :, 1], flat)
    assert {one.extent for one in report.taken} == {"as the middle slice"}
    assert torch.equal(now["fuse.prompt"], before["fuse.prompt"])


def test_monai_s_segresnet_by_its_names(tmp_path: Path) -> None:
    theirs = SegResNet(init_filters=8, in_channels=1, out_channels=2).state_dict()
    path = checkpoint(tmp_path, theirs, epoch=3, best_acc=0.5)
    report, _, now = loaded(path, network_for((8, 16, 32, 64), (HALF, HALF, HALF)))
    assert report.layout == "MONAI SegResNet"
    places = {one.weight: one.theirs for one in report.taken}
    assert places["encoder.stages.3.0.conv.weight"] == "down_layers.3.0.conv.weight"
    assert places["decoder.levels.2.blocks.1.conv.weight"] == "up_layers.2.0.conv1.conv.weight"
    assert same_direction(now["encoder.stages.3.0.conv.weight"], theirs["down_layers.3.0.conv.weight"])
    assert "8 x 1 x 3 x 3 x 3" in report.unused["convInit.conv.weight"]  # the backbone's first kernels are flat
    assert report.unused["down_layers.1.1.norm1.weight"] == "the network has no such layer"


def test_monai_s_swin_unetr_gives_its_convolutions(tmp_path: Path) -> None:
    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1)).state_dict()
    features = (12, 12, 24, 48, 96, 192)
    path = tmp_path / "swin.safetensors"
    safetensors.torch.save_file({name: value for name, value in theirs.items() if value.is_floating_point()}, path)
    report, _, now = loaded(path, network_for(features, (HALF,) * 5))
    assert report.layout == "MONAI SwinUNETR"
    places = {one.weight: one.theirs for one in report.taken}
    assert places["encoder.stages.5.1.conv.weight"] == "encoder10.layer.conv2.conv.weight"
    assert places["decoder.levels.4.blocks.0.conv.weight"] == "decoder1.conv_block.conv1.conv.weight"
    assert torch.equal(now["decoder.levels.1.up.weight"], theirs["decoder4.transp_conv.conv.weight"])
    assert report.unused["swinViT.patch_embed.proj.weight"] == "the network has no such layer"


def test_the_transformer_alone_fits_nothing(tmp_path: Path) -> None:
    vit = {k: v for k, v in SwinUNETR(1, 2, feature_size=12).state_dict().items() if k.startswith("swinViT.")}
    with pytest.raises(UsageError, match=r"nothing of its encoder \(MONAI SwinUNETR\) fits .* other layers"):
        InitialWeights(checkpoint(tmp_path, vit), (12, 12), (HALF,))


def test_other_widths_are_refused_with_both_shapes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, SegResNet(init_filters=8, in_channels=1, out_channels=2).state_dict())
    with pytest.raises(UsageError, match=r"64 x 64 x 3 x 3 x 3, and encoder\.stages\.3\.1\.conv\.weight is 7 x 7"):
        InitialWeights(path, (4, 5, 6, 7), (HALF, HALF, HALF))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"fc.weight": torch.ones(3, 3)}}, "no network known here"),
        ({"epoch": 3}, "holds no network's weights"),
        ({"model": {"module.convInit.conv.weight": torch.full((2, 2), float("nan"))}}, "NaN"),
        ([1, 2], "holds no dictionary"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(BadInputError, match=reason) as refused:
        read_foreign_weights(path, 5)
    assert str(path) in str(refused.value)


def test_a_pickle_that_asks_for_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(BadInputError, match="no checkpoint needs"):
        read_foreign_weights(path, 5)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_this_program_gives_rows_by_name(config: TrainingConfig, tmp_path: Path) -> None:
    balls = config.datasets[1]
    short = config.model_copy(update={"epochs": 1, "validation_fraction": 0.0})
    base = train(short.model_copy(update={"datasets": (balls,), "output": tmp_path / "base"})).model
    events: list[Event] = []
    run = short.model_copy(update={"init": str(base)})
    result = train(run, events=events.append)
    report = TransferReport.model_validate_json((config.output / "initial_weights.json").read_bytes())
    assert [event.text for event in events if isinstance(event, Message)] == [report.sentence()]
    rows = {one.weight for one in report.taken if one.extent == "rows of the same names"}
    assert rows >= {"modal_map.prompts", "fuse.blocks.2.conv.weight", "decoder.levels.4.head.weight"}
    assert not report.fresh and not report.unused
    known = load_model(base)
    assert load_model(result.model).info.provenance["initial_weights_sha256"] == known.sha256
    start = InitialWeights(base, config.network.features, config.network.strides)
    info = load_model(result.model).info
    network = build_model(info.meduniseg_config)
    fresh = network.state_dict()["fuse.blocks.2.norm.weight"].clone()
    start.load(network, info)
    now = network.state_dict()["fuse.blocks.2.norm.weight"]
    assert [plan.task for plan in info.tasks] == ["disc", "ball"]
    assert now[0] == fresh[0] and now[1] == known.network.state_dict()["fuse.blocks.2.norm.weight"][0]
    with pytest.raises(BadInputError, match="another"):  # without it the run is another one
        train(short, resume=True)


def test_a_wider_model_gives_what_has_the_same_shape(config: TrainingConfig, tmp_path: Path) -> None:
    """Unlike pretrained_weights, which must fit."""
    wide = ModelConfig(features=(4, 6, 8, 8, 10, 10), classes=3, modalities=0, tasks=0)
    plan = find_model("starter")[1].tasks[0].model_copy(update={"classes": ("a", "b")})
    info = ModelInfo(name="wide", config=wide, tasks=(plan,))
    path = tmp_path / "wide.safetensors"
    save_model(path, info, build_model(wide).state_dict())
    network = NetworkSettings(features=(4, 6, 8, 8, 8, 8), task_prompt_channels=4, modal_prompt_length=16)
    built = ModelConfig(features=network.features, classes=2, modalities=0, tasks=0)
    report, _, _ = loaded(path, built)
    taken = {one.weight for one in report.taken}
    assert "encoder.stages.3.1.conv.weight" in taken
    assert {"encoder.stages.4.0.conv.weight", "decoder.levels.0.up.weight"} <= set(report.fresh)


def test_one_start_only_and_paths_relative_to_the_file(config: TrainingConfig, tmp_path: Path) -> None:
    text = 'name = "x"\ndatasets = ["a"]\noutput = "o"\ncache = "c"\n'
    path = tmp_path / "run.toml"
    path.write_text(text + 'init = "net.pth"\n')
    assert TrainingConfig.from_toml(path).init == str(tmp_path / "net.pth")
    assert TrainingConfig.from_toml(path, init="other.pt").init == str(Path("other.pt").absolute())
    path.write_text(text + 'init = "starter"\n')
    assert TrainingConfig.from_toml(path).init == "starter"
    path.write_text(text + 'init = "starter"\npretrained_weights = "starter"\n')
    with pytest.raises(BadInputError, match="pretrained_weights or init, not both"):
        TrainingConfig.from_toml(path)
