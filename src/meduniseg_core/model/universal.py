"""The common base of all universal networks: the backbone's encoder, one interface, mixed batches, the 2D path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet import Decoder, Encoder


class UniversalNetwork(nn.Module):
    """One network for many tasks: ``encode`` once for an image, ``decode`` for each task.

    ``binary_classes``: whether every foreground class is a binary question of its own (the background's logit is 0, and
    a class's logit its log-odds), which the loss follows.
    """

    binary_classes = False
    encoder: Encoder
    decoder: Decoder

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def parts(self) -> Sequence[Self]:
        """The networks whose logits are averaged: this one alone."""
        return [self]

    @property
    def levels(self) -> int:
        """Number of decoder levels, each with a head."""
        return len(self.config.strides)

    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        """Compute everything that does not depend on the task; by default the encoder's stages, for any modality.

        Args:
            images: (B, C, D, H, W), or a list of (C_i, D, H, W) with one grid and different channel counts.
            modality: (B,) int64, the modality's index among the network's; required if the network has a modal prior.

        Returns:
            The features, from which any task can be decoded.

        Raises:
            ValueError: the modality is missing, the shapes do not fit, or no stem takes so many channels.
        """
        return Features(stages=tuple(self._stages(flattened(images))), priors=None)

    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """Compute the logits of one task for each sample.

        Args:
            features: the result of :meth:`encode`.
            task: (B,) int64; required if the network has a task prior.
            levels: how many of the finest levels.

        Returns:
            Logits (B, classes, D, H, W), finest level first.

        Raises:
            ValueError: the task is missing.
        """
        raise NotImplementedError

    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        """Compute the input of the finest head, for one task for each sample; by default the same for all tasks.

        Args:
            features: the result of :meth:`encode`.
            task: (B,) int64; required if the network has a task prior.

        Returns:
            (B, features, D, H, W).

        Raises:
            ValueError: the task is missing.
        """
        return with_depth(self.decoder.finest(features.stages[-1], features.stages[:-1]))

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
            task: (B,) int64; required if the network has a task prior.
            modality: (B,) int64; required if the network has a modal prior.
            levels: how many of the finest levels; None for all.

        Returns:
            Logits (B, classes, D, H, W), finest level first.
        """
        return self.decode(self.encode(images, modality), task, self.levels if levels is None else levels)

    def _stages(self, images: Tensor | list[Tensor], count: int | None = None) -> list[Tensor]:
        """The encoder's stages, finest first, of flattened images."""
        dtype = self.encoder.stem_dtype()
        images = images.to(dtype) if isinstance(images, Tensor) else [sample.to(dtype) for sample in images]
        found: list[Tensor] = self.encoder(images, count)
        return found


def needed(index: Tensor | None, what: str) -> Tensor:
    """Check that the samples' tasks or modalities are given.

    Args:
        index: (B,) int64, or None.
        what: "task" or "modality".

    Returns:
        The index.

    Raises:
        ValueError: it is None.
    """
    if index is None:
        raise ValueError(
            f"this network has a {'modal' if what == 'modality' else what} prior: pass the {what} of every sample"
        )
    return index


def flattened(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Drop the depth axis of input of depth 1, which selects the 2D path of every block.

    Args:
        images: (B, C, D, H, W), or a list of (C_i, D, H, W).

    Returns:
        The images; (B, C, H, W), or a list of (C_i, H, W), if their depth is 1.

    Raises:
        ValueError: they have another number of axes, or different grids.
    """
    if isinstance(images, Tensor):
        if images.dim() != 5:
            raise ValueError(f"images must be (B, C, D, H, W), not {tuple(images.shape)}")
        return images.squeeze(2) if images.shape[2] == 1 else images
    samples = list(images)
    if len({tuple(sample.shape[1:]) for sample in samples}) != 1:
        raise ValueError("the samples of one batch must share one grid (D, H, W)")
    return [sample.squeeze(1) if sample.shape[1] == 1 else sample for sample in samples]


def with_depth(x: Tensor) -> Tensor:
    """Restore the depth axis of features of the 2D path.

    Args:
        x: (B, C, D, H, W) or (B, C, H, W).

    Returns:
        (B, C, D, H, W).
    """
    return x.unsqueeze(2) if x.dim() == 4 else x


def joined(*features: Tensor | None) -> Tensor:
    """Concatenate features along their channels, in the first one's dtype.

    Args:
        *features: (B, C_i, ...) on one grid; None is left out. The first is never None.

    Returns:
        (B, sum of C_i, ...).
    """
    given = [one for one in features if one is not None]
    return given[0] if len(given) == 1 else torch.cat([one.to(given[0].dtype) for one in given], dim=1)
