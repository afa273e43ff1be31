"""Hermes on the backbone (Gao et al.: "Training Like a Medical Resident: Context-Prior Learning Toward Universal
Medical Image Segmentation", CVPR 2024).

The paper's idea: as a resident learns from cases of all kinds, a network learns from all tasks and modalities, and
keeps what it knows of each in pools of learned vectors: one task prior for every class, and some modality priors for
every modality. At several stages of the network the priors of the image's task and modality are taken from the stage's
pools and fused with its features by attention in both directions: the priors gather from the image, and the image's
features from the priors. What the task priors have become (posterior prototypes), of all stages together, gives the
kernels of the final masks, one binary question per class.

Here, on the backbone of docs/spec.md section 2: the last three encoder stages and the first two decoder levels have
pools, with two blocks of attention each, four at the bottleneck, and ten priors per modality, as in the paper's own
U-Net. So the encoder's first stages alone are shared by the tasks of one image. The posterior prototypes pass through
two linear layers to become the kernels, which all decoder levels share (deep supervision). The paper's second loss,
which classifies the modality from the modality priors, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.baselines.attention import Attention, FeedForward, attended_features, tokens_of
from meduniseg_core.model.baselines.heads import class_masks, head_classes, with_background
from meduniseg_core.model.blocks import initialise, random_normal
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet import Decoder, Encoder, Touch
from meduniseg_core.model.universal import UniversalNetwork, flattened, needed, with_depth

MODALITY_PRIORS = 10
_ENCODER_STAGES, _DECODER_LEVELS = 3, 2
_BLOCKS, _BLOCKS_AT_BOTTLENECK = 2, 4


class _Exchange(nn.Module):
    """Attention in both directions between priors and features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gather, self.inject = Attention(width), Attention(width)
        self.of_priors, self.of_features = FeedForward(width), FeedForward(width)

    def forward(self, priors: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """One exchange.

        Args:
            priors: (B, n, width).
            image: (B, voxels, width).

        Returns:
            Priors and image, changed.
        """
        priors = priors + self.gather(priors, image)
        priors = priors + self.of_priors(priors)
        image = image + self.inject(image, priors)
        return priors, image + self.of_features(image)


class _Pools(nn.Module):
    """One stage's pools of task and modality priors, and their fusion with its features."""

    def __init__(self, width: int, classes: int, modalities: int, blocks: int) -> None:
        super().__init__()
        self.tasks = nn.Parameter(random_normal(classes, width))
        self.modalities = nn.Parameter(random_normal(modalities, MODALITY_PRIORS, width))
        self.blocks = nn.ModuleList(_Exchange(width) for _ in range(blocks))

    def forward(self, x: Tensor, classes: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            x: (B, width, ...) features.
            classes: (B, n) int64, the numbers of each sample's classes.
            modality: (B,) int64.

        Returns:
            The fused features, and the posterior prototypes of the classes, (B, n, width).
        """
        priors, image = torch.cat((self.tasks[classes], self.modalities[modality]), dim=1), tokens_of(x)
        for block in self.blocks:
            priors, image = block(priors, image)
        return attended_features(image, x), priors[:, : classes.shape[1]]


class Hermes(UniversalNetwork):
    """Pools of task and modality priors at several stages."""

    binary_classes = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths, finest = config.features, config.features[0]
        classes = config.tasks * (config.classes - 1)
        self._shared = max(1, len(widths) - _ENCODER_STAGES)
        self._fused_levels = min(_DECODER_LEVELS, len(widths) - 1)
        at_encoder = widths[self._shared :]
        at_decoder = widths[::-1][1 : 1 + self._fused_levels]
        blocks = [*[_BLOCKS] * (len(at_encoder) - 1), _BLOCKS_AT_BOTTLENECK]
        self.encoder = Encoder(config)
        self.encoder_pools = nn.ModuleList(
            _Pools(width, classes, config.modalities, count) for width, count in zip(at_encoder, blocks, strict=True)
        )
        self.decoder = Decoder(config, widths[-1], outputs=finest)
        self.decoder_pools = nn.ModuleList(_Pools(width, classes, config.modalities, _BLOCKS) for width in at_decoder)
        prototypes = sum(at_encoder) + sum(at_decoder)
        self.kernels = nn.Sequential(
            nn.LayerNorm(prototypes), nn.Linear(prototypes, widths[-1]), nn.GELU(), nn.Linear(widths[-1], finest)
        )
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        """See the base class: the stages of the encoder that have no priors; the modalities are their context."""
        stages = self._stages(flattened(images), self._shared)
        return Features(stages=tuple(stages), priors=None, context=needed(modality, "modality"))

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """See the base class: the masks of the task's classes, and 0 for the background."""
        stages, touch, prototypes = self._fused(features, task)
        embedded = self.decoder(stages[-1], stages[:-1], levels, touch=touch)
        kernels = self.kernels(torch.cat(prototypes, dim=2))
        return [with_depth(with_background(class_masks(level, kernels))) for level in embedded]

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        stages, touch, _ = self._fused(features, task)
        return with_depth(self.decoder.finest(stages[-1], stages[:-1], touch=touch))

    def _fused(self, features: Features, task: Tensor | None) -> tuple[list[Tensor], Touch, list[Tensor]]:
        """All encoder stages, the fusion for decoder levels, and the list that receives the posterior prototypes."""
        modality = features.context
        assert modality is not None
        classes = head_classes(needed(task, "task"), self.config.classes - 1)
        stages, prototypes = list(features.stages), []
        for stage, pools in zip(list(self.encoder.stages)[self._shared :], self.encoder_pools, strict=True):
            x, posterior = pools(stage(stages[-1]), classes, modality)
            stages.append(x)
            prototypes.append(posterior)

        def touch(position: int, x: Tensor) -> Tensor:
            if position >= self._fused_levels:
                return x
            x, posterior = self.decoder_pools[position](x, classes, modality)
            prototypes.append(posterior)
            return x

        return stages, touch, prototypes
