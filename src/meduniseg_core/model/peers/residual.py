"""The residual U-Net whose blocks the networks for one task are built of."""

from __future__ import annotations

from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.unet import CUBE_KERNEL, FLAT_KERNEL
from meduniseg_core.model.unet_config import UNetConfig


def unet_of(config: ModelConfig, *, bias: bool = True) -> UNetConfig:
    """Describe blocks of (3, 3, 3) kernels for an architecture; in 2D kernels and strides are flat.

    Args:
        config: the architecture.
        bias: whether the convolutions before the norms have one.

    Returns:
        The description, with the strides of all stages.
    """
    stages, flat = len(config.features), config.dimension == 2
    strides = tuple((1 if flat else depth, height, width) for depth, height, width in config.strides)
    return UNetConfig(
        encoder="residual",
        dimension=config.dimension,
        channels=config.stems[0],
        classes=config.classes,
        features=config.features,
        kernels=(FLAT_KERNEL if flat else CUBE_KERNEL,) * stages,
        strides=((1, 1, 1), *strides),
        encoder_blocks=(1,) * stages,
        decoder_blocks=(1,) * (stages - 1),
        bias=bias,
    )
