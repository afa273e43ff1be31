"""Weights of MONAI's Swin UNETR and UNETR, placed in this program's (`model.peers`), transformer and all.

Both compute the same from them (docs/spec.md section 15). Names and shapes are those of MONAI 1.6 and, of Swin UNETR's
transformer alone, those that its ``load_from`` and ``filter_swinunetr`` read from the published files. Axes stay in the
file's order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from meduniseg_core.importers.places import HEAD, NO_LAYER, Place
from meduniseg_core.model.baselines.attention import heads_of
from meduniseg_core.model.peers.swin_unetr import HEAD_WIDTH

# where MONAI's merges keep what ours reads of the voxels 000, 001, 010, ... of a cube
_CORNERS = (0, 3, 2, 6, 1, 5, 4, 7)
_CONVOLUTIONS = {"1": "first", "2": "second", "3": "projection"}
_PATCH = 16
_PUBLISHED_ENCODER = re.compile(r"encoder\.layers([1-4])\.0\.\d+\.")


@dataclass(frozen=True)
class PeerLayout:
    """How a network for one task takes a file.

    ``typical``: names that only such files have. ``parts`` yields the name, the tensor as the network has it, and its
    place; a tensor that becomes two is named twice, with the part in brackets.
    """

    name: str
    typical: str
    parts: Callable[[str, Tensor], Iterator[tuple[str, Tensor, Place]]]

    def read(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
        """Find the places of a file's tensors.

        Args:
            tensors: by their names there.

        Returns:
            The tensors as the network has them, the places of those that have one, and why others have none.
        """
        found: dict[str, Tensor] = {}
        places: dict[str, str] = {}
        passed_over: dict[str, str] = {}
        for theirs, whole in tensors.items():
            if not whole.dim() or not whole.numel():
                passed_over[theirs] = NO_LAYER  # nothing of these networks is a single number, or empty
                continue
            for name, tensor, place in self.parts(theirs, whole):
                found[name] = tensor
                if place is None or place == HEAD:
                    passed_over[name] = place or NO_LAYER
                else:
                    places[name] = place
        return found, places, passed_over


def _swin_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor, Place]]:
    own = _PUBLISHED_ENCODER.sub(r"layers\1.0.", name)  # a file of the encoder alone names every layer twice
    own = own.removeprefix("encoder.") if own.startswith("encoder.patch_embed.") else own.removeprefix("swinViT.")
    if match := re.fullmatch(r"layers([1-4])\.0\.blocks\.(\d+)\.(.+)", own):
        block, rest = f"hierarchy.stages.{int(match[1]) - 1}.blocks.{match[2]}", match[3]
        if (kind := rest.removeprefix("attn.qkv.")) in ("weight", "bias") and len(tensor) % 3 == 0:
            width = len(tensor) // 3
            yield f"{name} (queries)", tensor[:width], f"{block}.attention.queries.{kind}"
            yield f"{name} (keys and values)", _by_head(tensor[width:]), f"{block}.attention.keys_and_values.{kind}"
            return
        yield name, tensor, _in_block(block, rest)
        return
    if match := re.fullmatch(r"layers([1-4])\.0\.downsample\.(norm|reduction)\.(weight|bias)", own):
        ours = f"hierarchy.merges.{int(match[1]) - 1}.{'norm' if match[2] == 'norm' else 'reduce'}.{match[3]}"
        corners = tensor.shape[-1] % len(_CORNERS) == 0
        yield name, _in_our_order(tensor) if corners else tensor, ours
        return
    yield name, tensor, _swin_place(own)


def _swin_place(name: str) -> Place:
    if name.startswith("out."):
        return HEAD
    if match := re.fullmatch(r"patch_embed\.proj\.(weight|bias)", name):
        return f"hierarchy.embedding.{match[1]}"
    if match := re.fullmatch(r"encoder(1|2|3|4|10)\.layer\.(.+)", name):
        return _in_residual(f"laterals.{5 if match[1] == '10' else int(match[1]) - 1}", match[2])
    return _in_decoder(name, 5)


def _unetr_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor, Place]]:
    own = name.removeprefix("vit.")
    place = _unetr_place(own)
    if place == "places" and tensor.dim() == 3 and (side := round(tensor.shape[1] ** (1 / 3))) ** 3 == tensor.shape[1]:
        tensor = tensor.transpose(1, 2).reshape(1, -1, side, side, side)
    if own == "patch_embedding.patch_embeddings.1.weight" and tensor.shape[-1] % _PATCH**3 == 0:
        # a dense layer on a patch's voxels, the channels of each together
        tensor = tensor.view(len(tensor), _PATCH, _PATCH, _PATCH, -1).movedim(-1, 1)
    yield name, tensor.contiguous(), place


def _unetr_place(name: str) -> Place:
    if name.startswith("out."):
        return HEAD
    if name == "patch_embedding.position_embeddings":
        return "places"
    if match := re.fullmatch(r"patch_embedding\.patch_embeddings\.(?:1\.)?(weight|bias)", name):
        return f"embedding.{match[1]}"
    if match := re.fullmatch(r"norm\.(weight|bias)", name):
        return name
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", name):
        block = f"blocks.{match[1]}"
        if match[2] == "attn.qkv.weight":
            return f"{block}.queries_keys_values.weight"
        return _in_block(block, match[2], attention=block)
    if match := re.fullmatch(r"encoder1\.layer\.(.+)", name):
        return _in_residual("lateral", match[1])
    if match := re.fullmatch(r"encoder([234])\.transp_conv_init\.conv\.weight", name):
        return f"laterals.{int(match[1]) - 2}.0.weight"
    if match := re.fullmatch(r"encoder([23])\.blocks\.(\d+)\.(?:0\.)?conv\.weight", name):
        return f"laterals.{int(match[1]) - 2}.{1 + 2 * int(match[2])}.weight"
    if match := re.fullmatch(r"encoder([23])\.blocks\.(\d+)\.1\.(.+)", name):
        return _in_residual(f"laterals.{int(match[1]) - 2}.{2 + 2 * int(match[2])}", match[3])
    return _in_decoder(name, 5)


def _in_block(block: str, name: str, attention: str | None = None) -> Place:
    """What both transformers' blocks share."""
    attention = attention or f"{block}.attention"
    if name == "attn.relative_position_bias_table":
        return f"{attention}.bias"
    if match := re.fullmatch(r"attn\.(?:proj|out_proj)\.(weight|bias)", name):
        return f"{attention}.out.{match[1]}"
    if match := re.fullmatch(r"norm1\.(weight|bias)", name):
        return f"{block}.norm.{match[1]}"
    if match := re.fullmatch(r"norm2\.(weight|bias)", name):
        return f"{block}.feed_forward.norm.{match[1]}"
    if match := re.fullmatch(r"mlp\.(?:linear|fc)([12])\.(weight|bias)", name):
        return f"{block}.feed_forward.{'up' if match[1] == '1' else 'down'}.{match[2]}"
    return None


def _in_residual(block: str, name: str) -> Place:
    match = re.fullmatch(r"conv([123])\.conv\.weight|norm([123])\.(weight|bias)", name)
    if match is None:
        return None
    if match[1]:
        return f"{block}.{_CONVOLUTIONS[match[1]]}.conv.weight"
    return f"{block}.{_CONVOLUTIONS[match[2]]}.norm.{match[3]}"


def _in_decoder(name: str, deepest: int) -> Place:
    if match := re.fullmatch(r"decoder([1-5])\.transp_conv\.conv\.weight", name):
        return f"decoder.levels.{deepest - int(match[1])}.up.weight"
    if match := re.fullmatch(r"decoder([1-5])\.conv_block\.(.+)", name):
        return _in_residual(f"decoder.levels.{deepest - int(match[1])}.blocks", match[2])
    return None


def _by_head(keys_and_values: Tensor) -> Tensor:
    """All keys, then all values, as the keys and values of each head."""
    width = len(keys_and_values) // 2
    heads = heads_of(width, HEAD_WIDTH)
    return keys_and_values.view(2, heads, width // heads, -1).transpose(0, 1).reshape(keys_and_values.shape)


def _in_our_order(tensor: Tensor) -> Tensor:
    return torch.cat([tensor.chunk(len(_CORNERS), dim=-1)[corner] for corner in _CORNERS], dim=-1)


PEER_LAYOUTS: dict[str, PeerLayout] = {
    "swin-unetr": PeerLayout("MONAI SwinUNETR", r"swinViT\.|(?:encoder\.)?layers1\.0\.(?:\d+\.)?blocks\.", _swin_parts),
    "unetr": PeerLayout("MONAI UNETR", r"vit\.patch_embedding\.|patch_embedding\.position_embeddings", _unetr_parts),
}
"""By the name of the method that takes such files whole."""
