"""A residual block from each size of an encoder to a decoder of residual blocks, as UNETR and those after it have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.one_head import OneHead
from meduniseg_core.model.peers.residual import unet_of
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.plain_unet import ResidualBlock
from meduniseg_core.model.unet import Decoder

MakeBlock = Callable[[int, int], nn.Module]


def residual_blocks(config: ModelConfig) -> MakeBlock:
    """Make residual blocks that keep their input's size.

    Args:
        config: the architecture.

    Returns:
        A function of the numbers of channels before and after a block.
    """
    shape = unet_of(config, bias=False)
    return lambda inputs, outputs: ResidualBlock(shape, inputs, outputs, shape.kernels[0], (1, 1, 1))


def residual_decoder(config: ModelConfig, width: int, residual: MakeBlock) -> Decoder:
    """Make the decoder: at each size a transposed convolution, the skip, and a residual block.

    Args:
        config: the architecture.
        width: of the coarsest features.
        residual: see :func:`residual_blocks`.

    Returns:
        The decoder, without heads.
    """
    return Decoder(config, width, outputs=0, blocks=lambda width: residual(2 * width, width))


class LateralBlocks(OneHead):
    """A network whose ``hierarchy`` computes features of every size but the image's; ``laterals`` take them, and the
    image first, to the decoder."""

    hierarchy: nn.Module
    laterals: nn.ModuleList

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        volume = whole(images, self.config).to(self.dtype)
        inputs = [volume, *self.hierarchy(volume)]
        return Features(stages=tuple(one(x) for one, x in zip(self.laterals, inputs, strict=True)), priors=None)
