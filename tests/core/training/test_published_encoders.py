"""Published encoders: a file with the published names and shapes gives what the table says, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_initial_weights import HALF, checkpoint, loaded, network_for, same_direction
from torch import Tensor

from meduniseg_core.errors import BadInputError
from meduniseg_core.importers import foreign_weights
from meduniseg_core.importers.foreign_weights import read_foreign_weights
from meduniseg_core.importers.published import published_encoders

BACKBONE = network_for((32, 64, 128, 256), (HALF, HALF, HALF))
DOCS = Path(__file__).parents[3] / "docs" / "how-to" / "train.md"


def conv(outputs: int, inputs: int, size: int = 3) -> Tensor:
    return torch.randn(outputs, inputs, size, size, size)


def genesis(*, skips: bool = True) -> dict[str, Tensor]:
    """pytorch/unet3d.py of Models Genesis; without skip connections models/pcrlv2_model_3d.py of PCRLv2."""
    torch.manual_seed(1)
    state: dict[str, Tensor] = {}
    inputs = 1
    for depth, width in enumerate((64, 128, 256, 512)):
        for at, (outputs, before) in enumerate(((32 * 2**depth, inputs), (64 * 2**depth, 32 * 2**depth))):
            state[f"down_tr{width}.ops.{at}.conv1.weight"] = conv(outputs, before)
            state[f"down_tr{width}.ops.{at}.conv1.bias"] = torch.randn(outputs)
            state[f"down_tr{width}.ops.{at}.bn1.weight"] = torch.rand(outputs)
        inputs = width
    for width in (256, 128, 64):
        state[f"up_tr{width}.up_conv.weight"] = conv(2 * width, 2 * width, 2)
        joined = 3 * width if skips else 2 * width
        state[f"up_tr{width}.ops.0.conv1.weight"] = conv(width, joined)
        state[f"up_tr{width}.ops.1.conv1.weight"] = conv(width, width)
        if not skips:
            state[f"up_tr{width}.predictor_head.0.weight"] = torch.randn(2 * width, width)
            state[f"up_tr{width}.deep_supervision_head.conv1.weight"] = conv(1, width)
    state["out_tr.final_conv.weight"] = conv(1, 64, 1)
    return state


def gvsl() -> dict[str, Tensor]:
    """models/gvsl.py of GVSL."""
    torch.manual_seed(2)
    widths, state = (32, 64, 128, 256, 512), dict[str, Tensor]()
    before = 1
    for at, width in enumerate(widths):
        lead = "unet.inc" if at == 0 else f"unet.down{at}.maxpool_conv.1"
        state[f"{lead}.double_conv.0.weight"], state[f"{lead}.double_conv.3.weight"] = (
            conv(width, before),
            conv(width, width),
        )
        state[f"{lead}.double_conv.1.weight"] = torch.rand(width)
        before = width
    for at, width in enumerate(widths[-2::-1], start=1):
        state[f"unet.up{at}.conv.double_conv.0.weight"] = conv(width, 3 * width)
        state[f"unet.up{at}.conv.double_conv.3.weight"] = conv(width, width)
    state["fc_rot.weight"] = torch.randn(3, 256)
    state["res_conv.0.weight"] = conv(16, 32)
    return state


@pytest.mark.parametrize("skips", [True, False])
def test_models_genesis_and_pcrl(tmp_path: Path, skips: bool) -> None:
    theirs = genesis(skips=skips)
    report, before, now = loaded(checkpoint(tmp_path, theirs), BACKBONE)
    assert report.layout == "Models Genesis"
    taken = {
        "encoder.stages.1.0.conv.weight": "down_tr64.ops.1.conv1.weight",
        "encoder.stages.1.1.conv.weight": "down_tr128.ops.0.conv1.weight",
        "encoder.stages.2.0.conv.weight": "down_tr128.ops.1.conv1.weight",
        "encoder.stages.2.1.conv.weight": "down_tr256.ops.0.conv1.weight",
        "encoder.stages.3.0.conv.weight": "down_tr256.ops.1.conv1.weight",
        "encoder.stages.3.1.conv.weight": "down_tr512.ops.0.conv1.weight",
        "decoder.levels.1.blocks.1.conv.weight": "up_tr64.ops.1.conv1.weight",
        "decoder.levels.0.blocks.1.conv.weight": "up_tr128.ops.1.conv1.weight",
    }
    for ours, name in taken.items():
        assert same_direction(now[ours], theirs[name]), ours
    changed = {name for name, value in now.items() if not torch.equal(value, before[name])}
    assert {name for name in changed if ".conv.weight" in name} == set(taken)


def test_gvsl(tmp_path: Path) -> None:
    theirs = gvsl()
    report, before, now = loaded(checkpoint(tmp_path, theirs), BACKBONE)
    assert report.layout == "GVSL"
    taken = {
        f"encoder.stages.{stage}.{at}.conv.weight": f"unet.down{stage}.maxpool_conv.1.double_conv.{3 * at}.weight"
        for stage in (1, 2, 3)
        for at in (0, 1)
    }
    for at in (2, 3, 4):
        taken[f"decoder.levels.{at - 2}.blocks.1.conv.weight"] = f"unet.up{at}.conv.double_conv.3.weight"
    for ours, name in taken.items():
        assert same_direction(now[ours], theirs[name]), ours
    changed = {name for name, value in now.items() if not torch.equal(value, before[name])}
    assert {name for name in changed if ".conv.weight" in name} == set(taken)


def test_the_table_names_every_encoder_of_the_paper_with_source_and_licence() -> None:
    table = published_encoders()
    assert [one.name for one in table] == [
        *("Models Genesis", "GVSL", "DeSD", "SMIT", "Swin UNETR", "VoCo", "Barlow Twins (pathology)", "PCRLv2"),
        *("MedKLIP", "UniMiSS", "UniSeg", "Universal Model"),
    ]
    known = {layout for layout, _, _ in foreign_weights._LAYOUTS}
    for one in table:
        assert one.source and one.licence and one.note and one.architecture
        assert (one.layout in known) == (one.reading == "read"), one.name
    documented = DOCS.read_text("utf-8")
    assert [one.name for one in table if f"| {one.name} |" not in documented] == []


@pytest.mark.parametrize(
    "state", [{"layer1.0.conv2.weight": torch.randn(64, 64, 3, 3)}, {"patch_embed3D0.proj.weight": torch.randn(4, 1)}]
)
def test_what_has_no_place_is_refused_not_guessed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(BadInputError, match="of no network known here"):
        read_foreign_weights(checkpoint(tmp_path, state), 5)
