"""Files with a known network's names and any shapes: what fits is taken or nothing is, and a fault is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_initial_weights import HALF, checkpoint, loaded, network_for
from torch import Tensor

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.importers.foreign_weights import read_foreign_weights
from meduniseg_core.model.config import ModelConfig
from tests.small_peers import small_peer

BACKBONE = network_for((4, 4, 8, 8), (HALF, HALF, HALF))
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (3,),
    (8,),
    (6, 4),
    (0, 4, 3, 3, 3),
    (4, 4, 3, 3),
    (4, 1, 3, 3, 3),
    (8, 4, 3, 3, 3),
)
NAMES = {
    "nnU-Net v2": (
        *("encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.0.0.convs.0.conv.bias"),
        *("encoder.stages.1.0.convs.0.conv.weight", "encoder.stages.0.0.convs.0.norm.weight"),
        *("decoder.transpconvs.0.weight", "decoder.stages.0.convs.0.conv.weight", "decoder.seg_layers.0.weight"),
    ),
    "UniSeg": (
        "conv_blocks_context.0.blocks.0.conv_1.weight",
        "conv_blocks_context.1.blocks.0.conv.weight",
        "tu.0.weight",
    ),
    "MONAI SegResNet": ("convInit.conv.weight", "down_layers.1.0.conv.weight", "up_layers.0.0.conv1.conv.weight"),
    "MONAI SwinUNETR": (
        *("swinViT.layers1.0.blocks.0.attn.qkv.weight", "swinViT.layers1.0.blocks.0.attn.qkv.bias"),
        *("swinViT.layers1.0.blocks.0.attn.relative_position_bias_table", "swinViT.layers1.0.downsample.norm.weight"),
        *(
            "swinViT.layers1.0.downsample.reduction.weight",
            "encoder1.layer.conv1.conv.weight",
            "swinViT.patch_embed.proj.weight",
        ),
        *("encoder2.layer.conv2.conv.weight", "decoder1.transp_conv.conv.weight", "out.conv.conv.weight"),
    ),
    "MONAI UNETR": (
        *("vit.patch_embedding.position_embeddings", "vit.patch_embedding.patch_embeddings.1.weight"),
        *("vit.blocks.0.attn.qkv.weight", "vit.norm.weight", "encoder2.transp_conv_init.conv.weight"),
    ),
    "Models Genesis": ("down_tr64.ops.0.conv1.weight", "down_tr64.ops.1.conv1.weight", "up_tr64.ops.1.conv1.weight"),
    "GVSL": ("inc.double_conv.0.weight", "down1.maxpool_conv.1.double_conv.0.weight", "up1.conv.double_conv.3.weight"),
    "the backbone's own names": (
        "encoder.stems.1.weight",
        "encoder.stages.1.0.conv.weight",
        "decoder.levels.0.up.weight",
    ),
}


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_is_taken_or_refused_in_a_sentence(tmp_path: Path, layout: str, shape: tuple[int, ...]) -> None:
    configs: dict[str, ModelConfig] = {"MONAI SwinUNETR": small_peer("swin-unetr"), "MONAI UNETR": small_peer("unetr")}
    for config in (BACKBONE, *([configs[layout]] if layout in configs else [])):
        state = {name: torch.ones(shape) for name in NAMES[layout]}
        try:
            _, _, now = loaded(checkpoint(tmp_path, state), config)
        except MedUniSegError as error:
            assert "weights.pt" in str(error)
        else:
            assert all(value.isfinite().all() for value in now.values())


def test_a_bias_without_its_kernel_has_no_place(tmp_path: Path) -> None:
    state: dict[str, Tensor] = {
        "encoder.stages.0.0.convs.0.conv.bias": torch.ones(4),
        "encoder.stages.1.0.convs.0.conv.weight": torch.ones(4, 4, 3, 3, 3),
    }
    found = read_foreign_weights(checkpoint(tmp_path, state), 3)
    assert list(found.passed_over) == ["encoder.stages.0.0.convs.0.conv.bias"]
