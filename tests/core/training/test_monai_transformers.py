"""MONAI's Swin UNETR and UNETR as initial weights of this program's: all but the head, and the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from test_initial_weights import checkpoint, loaded
from torch import Tensor, nn

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.initial_weights import InitialWeights
from tests.small_peers import small_peer

SWIN = small_peer("swin-unetr", features=(12, 12, 24, 48, 96, 192), strides=((2, 2, 2),) * 5)
UNET_TRANSFORMER = small_peer("unetr", features=(4, 8, 16, 32, 128), strides=((2, 2, 2),) * 4)


@pytest.fixture(autouse=True)
def without_einops(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's transformers ask for einops, which is none of this project's dependencies."""
    monkeypatch.setattr("monai.networks.nets.swin_unetr.rearrange", rearranged)
    monkeypatch.setattr("monai.networks.blocks.selfattention.Rearrange", Rearranged)


def rearranged(x: Tensor, pattern: str) -> Tensor:
    return x.movedim(1, -1) if pattern.endswith("c") else x.movedim(-1, 1)


class Rearranged(nn.Module):
    """Splits queries, keys, values and heads, or joins the heads."""

    def __init__(self, pattern: str, **sizes: int) -> None:
        super().__init__()
        assert pattern in ("b h (qkv l d) -> qkv b l h d", "b l h d -> b h (l d)")
        self._sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        if not self._sizes:
            return x.transpose(1, 2).flatten(2)
        return x.unflatten(2, (self._sizes["qkv"], self._sizes["l"], -1)).permute(2, 0, 3, 1, 4)


def monai_swin(window: int = 7) -> SwinUNETR:
    torch.manual_seed(3)
    return SwinUNETR(2, 3, feature_size=12, num_heads=(1, 1, 3, 6), window_size=window).eval()


def monai_unetr(**changes: Any) -> UNETR:
    torch.manual_seed(4)
    shape = {"img_size": (96, 96, 96), "feature_size": 4, "hidden_size": 128, "mlp_dim": 512, "num_heads": 2}
    return UNETR(2, 3, **{**shape, **changes}).eval()


def assert_same_function(theirs: nn.Module, config: ModelConfig, path: Path, size: tuple[int, int, int]) -> None:
    with pytest.MonkeyPatch.context() as patched:  # rescaled kernels differ beside the epsilon of their norms
        patched.setattr("meduniseg_core.training.initial_weights.rescale_like", lambda fresh, state, flat: state)
        report, _, now = loaded(checkpoint(path, theirs.state_dict()), config)
    assert {*report.fresh} == {"head.weight", "head.bias", *(name for name in now if norm_of_residual(name))}
    network = build_model(config)
    network.load_state_dict(now)
    head = network.get_submodule("head")
    head.load_state_dict({kind: theirs.state_dict()[f"out.conv.conv.{kind}"] for kind in ("weight", "bias")})
    image = torch.randn(1, 2, *size)
    with torch.inference_mode():
        ours, expected = network.eval()(image)[0], theirs(image)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def norm_of_residual(name: str) -> bool:
    """Whether a weight is one of a residual block's norms, for which MONAI's have none."""
    return any(f".{block}.norm." in name for block in ("first", "second", "projection"))


def test_swin_unetr_computes_what_monai_s_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # windows of 2 divide every size: where they do not, MONAI's voxels attend to the padding
    monkeypatch.setattr("meduniseg_core.model.peers.swin_unetr._WINDOW", 2)
    assert_same_function(monai_swin(window=2), SWIN, tmp_path, (64, 32, 32))


def test_unetr_computes_what_monai_s_does(tmp_path: Path) -> None:
    assert_same_function(monai_unetr(), UNET_TRANSFORMER, tmp_path, (96, 96, 96))


def test_a_published_encoder_of_swin_unetr_fills_the_transformer(tmp_path: Path) -> None:
    """In both forms that MONAI's readers of published files know: ``load_from`` and ``filter_swinunetr``."""
    state = {
        name.removeprefix("swinViT."): value
        for name, value in monai_swin().state_dict().items()
        if name.startswith("swinViT.") and value.is_floating_point()
    }
    old = {name.replace(".linear", ".fc"): value for name, value in state.items()}
    old["rotation_head.weight"] = torch.randn(4, 192)
    twice = {f"encoder.{_with_number(name)}": value for name, value in state.items()}
    twice["encoder.mask_token"] = torch.randn(1, 12)
    found = []
    for file in (old, twice):
        report, before, now = loaded(checkpoint(tmp_path, file), SWIN)
        assert report.layout == "MONAI SwinUNETR"
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        taken = {one.weight for one in report.taken}
        assert changed <= taken == {name for name in now if name.startswith("hierarchy.")}
        assert len(report.unused) == 1
        found.append(now)
    qkv = state["layers2.0.blocks.1.attn.qkv.weight"]
    attention = "hierarchy.stages.1.blocks.1.attention"
    assert torch.equal(found[0][f"{attention}.queries.weight"], qkv[:24])
    assert torch.equal(found[0][f"{attention}.keys_and_values.weight"], qkv[24:])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def _with_number(name: str) -> str:
    layers = name.split(".0.", maxsplit=1)
    return name if len(layers) == 1 else f"{layers[0]}.0.0.{layers[1]}"


def test_unetr_of_another_size_and_with_a_dense_embedding(tmp_path: Path) -> None:
    state = monai_unetr(img_size=(96, 96, 96)).state_dict()
    dense = "vit.patch_embedding.patch_embeddings.1."
    kernel = state.pop("vit.patch_embedding.patch_embeddings.weight")
    # MONAI's "perceptron": (p1 p2 p3 c)
    state[f"{dense}weight"] = kernel.permute(0, 2, 3, 4, 1).flatten(1)
    state[f"{dense}bias"] = state.pop("vit.patch_embedding.patch_embeddings.bias")
    report, _, now = loaded(checkpoint(tmp_path, state), UNET_TRANSFORMER)
    assert torch.equal(now["embedding.weight"], kernel)
    places = state["vit.patch_embedding.position_embeddings"]
    assert torch.equal(now["places"][0, :, 1, 2, 3], places[0, 1 * 36 + 2 * 6 + 3])
    state["vit.patch_embedding.position_embeddings"] = places[:, :60]
    report, before, now = loaded(checkpoint(tmp_path, state), UNET_TRANSFORMER)
    assert "1 x 60 x 128" in report.unused["vit.patch_embedding.position_embeddings"]
    assert torch.equal(now["places"], before["places"])


def test_files_of_other_networks_and_widths_are_refused(tmp_path: Path) -> None:
    swin, unetr = monai_swin().state_dict(), monai_unetr().state_dict()
    with pytest.raises(BadInputError, match="of no network known here"):
        InitialWeights(checkpoint(tmp_path, unetr), (12, 12), ((2, 2, 2),))
    with pytest.raises(UsageError, match=r"nothing of its encoder \(MONAI SwinUNETR\) fits"):
        InitialWeights(checkpoint(tmp_path, swin), UNET_TRANSFORMER.features, UNET_TRANSFORMER.strides, "unetr")
    kernels = {name: value for name, value in swin.items() if value.dim() > 1}
    with pytest.raises(UsageError, match=r"fits .* give \[network\] the features of the file"):
        InitialWeights(checkpoint(tmp_path, kernels), (16, 16, 32, 64, 128, 256), SWIN.strides, "swin-unetr")


def test_a_training_starts_from_monai_s_file_and_from_its_own_model(config: TrainingConfig, tmp_path: Path) -> None:
    theirs = UNETR(1, 2, img_size=96, feature_size=4, hidden_size=64, mlp_dim=256, num_heads=1)
    path = checkpoint(tmp_path, theirs.state_dict())
    network = {"method": "unetr", "features": (4, 8, 16, 32, 64), "strides": ((2, 2, 2),) * 4}
    change = {"network": network, "datasets": config.datasets[1:], "epochs": 1, "validation_every": 1}
    run = TrainingConfig.from_settings({**config.model_dump(), **change, "init": str(path)}, tmp_path / "run.toml")
    first = train(run)
    report = (config.output / "initial_weights.json").read_text("utf-8")
    assert "blocks.11.feed_forward.down.weight" in report
    again = run.model_copy(update={"init": str(first.model), "output": tmp_path / "again"})
    train(again)
    report = (again.output / "initial_weights.json").read_text("utf-8")
    assert '"fresh": []' in report and '"unused": {}' in report
