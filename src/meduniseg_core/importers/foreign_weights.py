"""Trained weights of other networks, and the places that the backbone has for them.

Read are this program's models, checkpoints of nnU-Net v2 and UniSeg, state dicts of MONAI's SegResNet, SwinUNETR and
UNETR, and published encoders (`published`). Pickles go through the restricted reader. A place is a layer of the
backbone (docs/spec.md section 2) at the same stage, or of another network where it takes such a file whole
(`monai_transformers`); whether the shapes agree is for the caller to compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular, sha256_of
from meduniseg_core.importers.monai_transformers import PEER_LAYOUTS
from meduniseg_core.importers.nnunet_network import our_name_of_nnunet
from meduniseg_core.importers.places import HEAD, NO_LAYER, TWIN, Place, Placer, PlacerOf, count_of, shifted, stem_for
from meduniseg_core.importers.published import LAYOUTS
from meduniseg_core.importers.torch_archive import MAX_BYTES, read_checkpoint
from meduniseg_core.importers.uniseg import our_name_of_uniseg
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.weights import ModelInfo, load_model
from meduniseg_core.weights.container import METADATA_KEY, SUFFIX
from meduniseg_core.weights.header import read_safetensors_header

# where programs keep the weights in a checkpoint
_ENTRIES = ("network_weights", "state_dict", "model_state_dict", "model_state", "model", "network", "net")
_PREFIX = re.compile(r"(?:module\.|_orig_mod\.|model\.|network\.|net\.)+")


@dataclass(frozen=True)
class ForeignWeights:
    """Tensors of a file by its own names.

    ``places`` names the network's weight for each of them that has one, ``passed_over`` says why another has none.
    ``info`` describes the model where the file is one of this program's.
    """

    path: Path
    sha256: str
    layout: str
    tensors: Mapping[str, Tensor]
    places: Mapping[str, str]
    passed_over: Mapping[str, str]
    info: ModelInfo | None = None


def read_foreign_weights(name_or_path: str | Path, levels: int, method: str = "meduniseg") -> ForeignWeights:
    """Read trained weights and find the places that a network has for them.

    Args:
        name_or_path: a file, or the name of an installed model.
        levels: number of the network's decoder levels; those of other networks are counted from the finest.
        method: the network's; those that do not take such a file whole have the backbone's places.

    Returns:
        The weights (float32, on the CPU).

    Raises:
        UsageError: no model of this name is installed.
        BadInputError: the file is damaged, holds no weights, or those of a network that is not known here.
    """
    path = Path(name_or_path)
    if str(name_or_path) == path.name and not path.suffix:
        return _of_model(str(name_or_path), levels)
    if path.suffix == SUFFIX:
        if not path.exists():
            raise BadInputError(f"{path}: there is no such file; check the path.")
        with open_regular(path) as stream:
            header = read_safetensors_header(stream, path)
        if METADATA_KEY in header.metadata:
            return _of_model(path, levels)
        return _placed(path, _tensors_of_safetensors(path), levels, method)
    return _placed(path, _tensors_of_checkpoint(path), levels, method)


def _of_model(name_or_path: str | Path, levels: int) -> ForeignWeights:
    """Weights of one of this program's models; of an imported ensemble those of its first network."""
    model = load_model(name_or_path)
    path = model.path or Path(str(name_or_path))
    tensors = dict(model.network.state_dict())
    if isinstance(model.info.config, UNetConfig):
        theirs = len(model.info.config.decoder_blocks)
        member = {name.removeprefix("members.0."): value for name, value in tensors.items() if ".0." in name[:10]}
        layout = "U-Net imported from nnU-Net v2"
        if model.info.config.members > 1:
            layout += f", the first of {model.info.config.members} networks"
        places, rest = _sorted(member, lambda name, _: _place_in_unet(name, member, theirs, levels))
        return ForeignWeights(path, model.sha256, layout, member, places, rest, model.info)
    shift = levels - len(model.info.config.strides)
    places = {name: shifted(name, shift) for name in tensors}
    return ForeignWeights(path, model.sha256, f"model {model.info.name}", tensors, places, {}, model.info)


def _placed(path: Path, tensors: Mapping[str, Tensor], levels: int, method: str) -> ForeignWeights:
    peer = PEER_LAYOUTS.get(method)
    if peer is not None and any(re.match(peer.typical, name) for name in tensors):
        return ForeignWeights(path, sha256_of(path), peer.name, *peer.read(tensors))
    for layout, typical, placer in _LAYOUTS:
        if any(re.match(typical, name) for name in tensors):
            places, rest = _sorted(tensors, placer(tensors, levels))
            return ForeignWeights(path, sha256_of(path), layout, tensors, places, rest)
    layouts = [*(() if peer is None else (peer.name,)), *(layout for layout, _, _ in _LAYOUTS)]
    known = ", ".join(dict.fromkeys(layouts))
    raise BadInputError(
        f"{path}: its weights ({next(iter(tensors))!r:.60}, ...) are of no network known here ({known}, or a model of "
        "this program); give another file."
    )


def _sorted(tensors: Mapping[str, Tensor], placer: Placer) -> tuple[dict[str, str], dict[str, str]]:
    """Names with a place, and for the others why they have none."""
    places: dict[str, str] = {}
    passed_over: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = placer(name, tensor)
        if place in (HEAD, TWIN):
            passed_over[name] = place
        elif place is None or place in places.values():
            passed_over[name] = NO_LAYER
        else:
            places[name] = place
    return places, passed_over


def _place_in_unet(name: str, tensors: Mapping[str, Tensor], theirs: int, ours: int) -> Place:
    """The place of a weight of `model.plain_unet.UNet`, by its name there."""
    if name.startswith("head."):
        return HEAD
    if match := re.fullmatch(r"stages\.0\.0\.conv\.(\w+)", name):
        return stem_for(tensors.get(name.rpartition(".")[0] + ".weight"), match[1])
    if match := re.fullmatch(r"stages\.0\.0\.norm\.(\w+)", name):
        return f"encoder.stem_norm.{match[1]}"
    if match := re.fullmatch(r"stages\.(\d+)\.([01])\.((?:conv|norm)\.\w+)", name):
        stage, block = int(match[1]), int(match[2])
        return f"encoder.stages.{stage}.{block if stage else block - 1}.{match[3]}"
    if match := re.fullmatch(r"(ups|levels)\.(\d+)\.(.+)", name):
        kind = "up" if match[1] == "ups" else "blocks"
        return shifted(f"decoder.levels.{match[2]}.{kind}.{match[3]}", ours - theirs)
    return None


def _nnunet(tensors: Mapping[str, Tensor], levels: int) -> Placer:
    theirs = count_of(tensors, r"decoder\.transpconvs\.(\d+)\.")
    renamed = {own: tensor for name, tensor in tensors.items() if (own := our_name_of_nnunet(name, theirs))}

    def place(name: str, _tensor: Tensor) -> Place:
        own = our_name_of_nnunet(name, theirs)
        return TWIN if own == "" else None if own is None else _place_in_unet(own, renamed, theirs, levels)

    return place


def _uniseg(tensors: Mapping[str, Tensor], levels: int) -> Placer:
    theirs = count_of(tensors, r"tu\.(\d+)\.")

    def place(name: str, _tensor: Tensor) -> Place:
        own = our_name_of_uniseg(name)
        if own is None or not own.startswith(("encoder.", "decoder.")):
            return None  # its task prior comes with 'models import'
        return HEAD if ".head." in own else shifted(own, levels - theirs)

    return place


def _segresnet(tensors: Mapping[str, Tensor], levels: int) -> Placer:
    """MONAI's SegResNet: of a residual block its first convolution; norms are of groups, before the convolution."""
    theirs = count_of(tensors, r"up_layers\.(\d+)\.")

    def place(name: str, tensor: Tensor) -> Place:
        if name.startswith("conv_final."):
            return HEAD
        if name == "convInit.conv.weight":
            return stem_for(tensor)
        if match := re.fullmatch(r"down_layers\.(\d+)\.0\.conv\.weight", name):
            return f"encoder.stages.{match[1]}.0.conv.weight"
        if match := re.fullmatch(r"down_layers\.(\d+)\.1\.conv1\.conv\.weight", name):
            return f"encoder.stages.{match[1]}.{min(int(match[1]), 1)}.conv.weight"
        if match := re.fullmatch(r"up_layers\.(\d+)\.0\.conv1\.conv\.weight", name):
            return shifted(f"decoder.levels.{match[1]}.blocks.1.conv.weight", levels - theirs)
        return None

    return place


def _swin_unetr(_tensors: Mapping[str, Tensor], levels: int) -> Placer:
    """MONAI's SwinUNETR: its convolutions; the transformer between them has no counterpart."""
    stages = {"1": 0, "2": 1, "3": 2, "4": 3, "10": 5}

    def place(name: str, tensor: Tensor) -> Place:
        if name.startswith("out."):
            return HEAD
        if name == "encoder1.layer.conv1.conv.weight":
            return stem_for(tensor)
        if match := re.fullmatch(r"encoder(1|2|3|4|10)\.layer\.conv2\.conv\.weight", name):
            stage = stages[match[1]]
            return f"encoder.stages.{stage}.{min(stage, 1)}.conv.weight"
        if match := re.fullmatch(r"decoder([1-5])\.transp_conv\.conv\.weight", name):
            return f"decoder.levels.{levels - int(match[1])}.up.weight"
        if match := re.fullmatch(r"decoder([1-5])\.conv_block\.conv([12])\.conv\.weight", name):
            return f"decoder.levels.{levels - int(match[1])}.blocks.{int(match[2]) - 1}.conv.weight"
        return None

    return place


def _own_names(_tensors: Mapping[str, Tensor], _levels: int) -> Placer:
    return lambda name, _: HEAD if ".head." in name else name


# a network, names that only it has, and how its weights find their places
_LAYOUTS: tuple[tuple[str, str, PlacerOf], ...] = (
    ("nnU-Net v2", r"encoder\.stages\.\d+\.(0\.convs|blocks)\.", _nnunet),
    ("UniSeg", r"conv_blocks_context\.", _uniseg),
    ("MONAI SwinUNETR", r"swinViT\.|layers1\.0\.blocks\.", _swin_unetr),
    ("MONAI SegResNet", r"convInit\.|down_layers\.", _segresnet),
    *LAYOUTS,
    ("the backbone's own names", r"encoder\.stems\.", _own_names),
)


def _tensors_of_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with open_regular(path) as stream:
            content = safetensors.torch.load(stream.read(MAX_BYTES))
    except (SafetensorError, ValueError) as error:
        raise BadInputError(f"{path}: its tensors cannot be read ({error!s:.150}); get the file again.") from error
    return _weights(path, content)


def _tensors_of_checkpoint(path: Path) -> dict[str, Tensor]:
    content: Mapping[Any, Any] = read_checkpoint(path)
    while not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((content[key] for key in _ENTRIES if isinstance(content.get(key), dict)), None)
        if inner is None:
            raise BadInputError(f"{path}: holds no network's weights; check that it is the right file.")
        content = inner
    return _weights(path, content)


def _weights(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The float tensors (a network's other buffers are its own), by names without the prefixes of wrappers."""
    limit = path.stat().st_size
    result: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        if tensor.numel() * tensor.element_size() > limit:  # strides of 0 make any size out of a few bytes
            raise BadInputError(f"{path}: tensor {name!r:.80} claims to be larger than the file; check the file.")
        own = tensor.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(own).all()):
            raise BadInputError(f"{path}: tensor {name!r:.80} holds NaN or infinite values; take another checkpoint.")
        result[_PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name] = own
    if not result:
        raise BadInputError(f"{path}: holds no network's weights; check that it is the right file.")
    return result
