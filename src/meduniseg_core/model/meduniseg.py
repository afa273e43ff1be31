"""The assembled network: modal prior, encoder, task prior, decoder (docs/spec.md sections 2-5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.modal_prior import ModalMap
from meduniseg_core.model.task_prior import Fuse, select
from meduniseg_core.model.unet import Decoder, Encoder


class MedUniSeg(nn.Module):
    """Prompt-driven universal segmentation network; without ``tasks`` and ``modalities`` the plain backbone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.modal_map = ModalMap(config.modalities, config.modal_prompt_length) if config.modalities else None
        self.encoder = Encoder(config)
        self.fuse = (
            Fuse(config.features[-1], config.task_prompt_channels, config.task_prompt_size, config.tasks)
            if config.tasks
            else None
        )
        self.decoder = Decoder(config, config.features[-1] + (1 if config.tasks else 0))
        self.apply(initialise)

    @property
    def parts(self) -> Sequence[MedUniSeg]:
        """The networks whose logits are averaged: this one alone."""
        return [self]

    @property
    def levels(self) -> int:
        """Number of decoder levels, each with a head."""
        return len(self.config.strides)

    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        """Everything that does not depend on the task.

        Args:
            images: (B, C, D, H, W), or a list of (C_i, D, H, W) with one grid and different channel counts.
            modality: (B,) int64, the positions of the prompts; needed where the network has a modal prior.

        Returns:
            The features, from which any task can be decoded.

        Raises:
            ValueError: the modality is missing, the shapes do not fit, or no stem takes so many channels.
        """
        flat = _flatten(images)
        if self.modal_map is not None:
            if modality is None:
                raise ValueError("this network has a modal prior: pass the modality of every sample")
            flat = self._with_modal_map(flat, modality)
        dtype = self.encoder.stem_dtype()
        flat = flat.to(dtype) if isinstance(flat, Tensor) else [sample.to(dtype) for sample in flat]
        stages = self.encoder(flat)
        return Features(stages=tuple(stages), priors=self._priors(stages[-1]))

    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """Logits of one task for each sample.

        Args:
            features: what :meth:`encode` returned.
            task: (B,) int64; needed where the network has a task prior.
            levels: how many of the finest levels.

        Returns:
            Logits (B, classes, D, H, W), finest level first.

        Raises:
            ValueError: the task is missing.
        """
        logits = self.decoder(self._bottleneck(features, task), features.stages[:-1], levels)
        return [level.unsqueeze(2) if level.dim() == 4 else level for level in logits]

    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        """What the finest head would make logits of, for one task for each sample.

        Args:
            features: what :meth:`encode` returned.
            task: (B,) int64; needed where the network has a task prior.

        Returns:
            (B, features, D, H, W).

        Raises:
            ValueError: the task is missing.
        """
        found = self.decoder.finest(self._bottleneck(features, task), features.stages[:-1])
        return found.unsqueeze(2) if found.dim() == 4 else found

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        task: Tensor | None = None,
        modality: Tensor | None = None,
        levels: int | None = None,
    ) -> list[Tensor]:
        """Encode and decode.

        Args:
            images: (B, C, D, H, W), or a list of (C_i, D, H, W) with one grid.
            task: (B,) int64; needed where the network has a task prior.
            modality: (B,) int64; needed where the network has a modal prior.
            levels: how many of the finest levels; None for all.

        Returns:
            Logits (B, classes, D, H, W), finest level first.
        """
        return self.decode(self.encode(images, modality), task, self.levels if levels is None else levels)

    def _bottleneck(self, features: Features, task: Tensor | None) -> Tensor:
        bottleneck = features.stages[-1]
        if features.priors is None:
            return bottleneck
        if task is None:
            raise ValueError("this network has a task prior: pass the task of every sample")
        return torch.cat((bottleneck, select(features.priors, task).to(bottleneck.dtype)), dim=1)

    def _with_modal_map(self, images: Tensor | list[Tensor], modality: Tensor) -> Tensor | list[Tensor]:
        assert self.modal_map is not None
        if isinstance(images, Tensor):
            modal_map: Tensor = self.modal_map(modality, tuple(images.shape[2:]))
            return images + modal_map
        maps = self.modal_map(modality, tuple(images[0].shape[1:]))
        return [image + own for image, own in zip(images, maps, strict=True)]

    def _priors(self, bottleneck: Tensor) -> Tensor | None:
        if self.fuse is None:
            return None
        if bottleneck.dim() == 4:  # FUSE is three-dimensional always: its prompt has a depth
            flat: Tensor = self.fuse(bottleneck.unsqueeze(2)).squeeze(2)
            return flat
        priors: Tensor = self.fuse(bottleneck)
        return priors


def _flatten(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Drop the depth axis of depth-1 input, which turns on the 2D path of every block."""
    if isinstance(images, Tensor):
        if images.dim() != 5:
            raise ValueError(f"images must be (B, C, D, H, W), not {tuple(images.shape)}")
        return images.squeeze(2) if images.shape[2] == 1 else images
    samples = list(images)
    if len({tuple(sample.shape[1:]) for sample in samples}) != 1:
        raise ValueError("the samples of one batch must share one grid (D, H, W)")
    return [sample.squeeze(1) if sample.shape[1] == 1 else sample for sample in samples]
