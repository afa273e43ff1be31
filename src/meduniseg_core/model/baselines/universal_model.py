"""The CLIP-driven Universal Model on the backbone (Liu et al., ICCV 2023).

The paper's idea: classes of different data sets are related (liver and liver tumour, left and right kidney), which a
one-hot code cannot say. Every class therefore has an embedding of a text about it, made by CLIP's text encoder and
fixed. For each class a controller makes, of its embedding and the image's global features, the weights of a small head
of three 1x1x1 convolutions that answers one binary question. A data set trains the heads of the classes that it
labels, all others are left out of the loss (masked back-propagation).

Here, on the backbone of docs/spec.md section 2: there is no text encoder. The embeddings (512 numbers) are learned
from random ones, unless the user gives embeddings of texts of their own (`class_embeddings` in a training
configuration), which then stay fixed, as in the paper. As there, they are brought to 256 numbers by a linear layer and
a ReLU, and the global features by another layer. Every class of every task has an embedding of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.heads import (
    WIDTH,
    dynamic_head,
    head_classes,
    head_sizes,
    parameters_of,
    pooled_features,
    with_background,
)
from meduniseg_core.model.blocks import initialise, random_normal
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet import Decoder, Encoder
from meduniseg_core.model.universal import UniversalNetwork, needed, with_depth

EMBEDDING = 512
"""Length of a class's embedding: that of CLIP's ViT-B/32."""
_CODE = 256


class UniversalModel(UniversalNetwork):
    """An embedding and a binary dynamic head for every class."""

    binary_classes = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, config.features[-1], outputs=WIDTH)
        self._sizes = head_sizes(1)
        self.embeddings = nn.Parameter(random_normal(config.tasks * (config.classes - 1), EMBEDDING))
        self.of_class = nn.Linear(EMBEDDING, _CODE)
        self.of_image = nn.Linear(config.features[-1], _CODE)
        self.controller = nn.Linear(2 * _CODE, parameters_of(self._sizes))
        self.apply(initialise)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """See the base class: the logits of the classes' binary heads, and 0 for the background."""
        own = head_classes(needed(task, "task"), self.config.classes - 1)
        of_class = F.relu(self.of_class(self.embeddings[own]))
        of_image = self.of_image(pooled_features(features.stages[-1])).unsqueeze(1).expand_as(of_class)
        parameters = self.controller(torch.cat((of_image, of_class), dim=2))
        reduced = self.decoder(features.stages[-1], features.stages[:-1], levels)
        return [with_depth(with_background(dynamic_head(level, parameters, self._sizes))) for level in reduced]
