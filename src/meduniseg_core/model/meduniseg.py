"""The assembled network: modal prior, encoder, task prior, decoder (docs/spec.md sections 2-5 and 10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.modal_prior import ModalMap
from meduniseg_core.model.task_prior import Fuse, FusionSize, Sefu, select
from meduniseg_core.model.unet import Decoder, Encoder
from meduniseg_core.model.universal import UniversalNetwork, flattened, joined, needed, with_depth


class MedUniSeg(UniversalNetwork):
    """Prompt-driven universal segmentation network; without ``tasks`` and ``modalities`` the plain backbone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        prompts = 1 if config.modal_prompts == "one" else config.modalities
        at_image, late = config.modal_prior_at == "image", config.task_prior_at == "decoder"
        size = FusionSize(
            config.features[-1],
            config.task_prompt_channels,
            config.task_prompt_size,
            config.fuse_blocks,
            config.fuse_divisor,
            config.learned_prompts,
        )
        self.modal_map = (
            ModalMap(prompts, config.modal_prompt_length, learned=config.learned_prompts)
            if config.modalities and at_image
            else None
        )
        self.encoder = Encoder(config)
        self.sefu = Sefu(size, prompts) if config.modalities and not at_image else None
        self.fuse: Fuse | Sefu | None = None
        if config.tasks:
            self.fuse = Fuse(size, config.tasks) if config.task_prompts == "one" else Sefu(size, config.tasks)
        priors = int(self.sefu is not None) + int(bool(config.tasks) and not late)
        self.decoder = Decoder(config, config.features[-1] + priors, late=int(bool(config.tasks) and late))
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        flat = flattened(images)
        if self.config.modalities:
            modality = needed(modality, "modality")
            if self.config.modal_prompts == "one":
                modality = torch.zeros_like(modality)
            if self.modal_map is not None:
                flat = self._with_modal_map(flat, modality)
        stages = self._stages(flat)
        priors = _prior(self.fuse, stages[-1]) if isinstance(self.fuse, Fuse) else None
        modal = None if self.sefu is None else _prior(self.sefu, stages[-1], modality)
        return Features(stages=tuple(stages), priors=priors, context=modal)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        bottleneck, late = self._decoder_input(features, task)
        return [with_depth(level) for level in self.decoder(bottleneck, features.stages[:-1], levels, late)]

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        bottleneck, late = self._decoder_input(features, task)
        return with_depth(self.decoder.finest(bottleneck, features.stages[:-1], late))

    def task_prior(self, features: Features, task: Tensor | None) -> Tensor | None:
        """The prior of one task for each sample.

        Args:
            features: what :meth:`encode` returned.
            task: (B,) int64.

        Returns:
            (B, 1, ...) on the bottleneck's grid; None in networks without task priors.

        Raises:
            ValueError: the task is missing.
        """
        if self.fuse is None:
            return None
        task = needed(task, "task")
        if features.priors is not None:
            return select(features.priors, task)
        return _prior(self.fuse, features.stages[-1], task)

    def _decoder_input(self, features: Features, task: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The bottleneck with the priors concatenated to it, and the prior that joins the decoder's end."""
        bottleneck = features.stages[-1]
        prior = self.task_prior(features, task)
        if self.config.task_prior_at == "decoder":
            return joined(bottleneck, features.context), prior
        return joined(bottleneck, features.context, prior), None

    def _with_modal_map(self, images: Tensor | list[Tensor], modality: Tensor) -> Tensor | list[Tensor]:
        assert self.modal_map is not None
        if isinstance(images, Tensor):
            modal_map: Tensor = self.modal_map(modality, tuple(images.shape[2:]))
            return images + modal_map
        maps = self.modal_map(modality, tuple(images[0].shape[1:]))
        return [image + own for image, own in zip(images, maps, strict=True)]


def _prior(fusion: Fuse | Sefu, bottleneck: Tensor, which: Tensor | None = None) -> Tensor:
    """FUSE's or SEFU's priors, also for 2D images: both are always three-dimensional, as their prompts have a depth."""
    volume = with_depth(bottleneck)
    priors: Tensor = fusion(volume) if which is None else fusion(volume, which)
    return priors.squeeze(2) if bottleneck.dim() == 4 else priors
