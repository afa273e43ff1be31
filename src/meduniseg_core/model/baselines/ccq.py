"""CCQ on the backbone (Liu, Wen, Yang: "CCQ: Cross-Class Query Network for Partially Labeled Organ Segmentation", AAAI
2023).

The paper's idea: labels of different data sets tell of different organs of the same body, so classes should learn
from each other even where one image has the labels of one of them. A learned query stands for each class of all data
sets. In the cross-class query learning module the queries look at each other and at the image, and so become
class-relevant queries; these find the features of their class in the encoder's output before it is decoded, and they
meet the refined features once more after the decoder, where each query gives the mask of its class.

Here, on the backbone of docs/spec.md section 2 in place of the paper's transformer encoder: two rounds (queries to
queries, queries to the bottleneck, feed-forward) do not depend on the task and run once for an image. *Before the
decoder* the bottleneck looks at the queries of the task's classes, and what it finds is added to it. *After the
decoder* these queries, passed through two linear layers, are the kernels of a 1x1x1 convolution at every level. Each
class is a binary question, and the loss sees those of the sample's task alone. The paper's attentive skip connections
and position codes are left out: skips are the backbone's, and its features know their place by their padding.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.baselines.attention import Attention, FeedForward, attended_features, tokens_of
from meduniseg_core.model.baselines.heads import class_masks, head_classes, with_background
from meduniseg_core.model.blocks import initialise, random_normal
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet import Decoder, Encoder
from meduniseg_core.model.universal import UniversalNetwork, flattened, needed, with_depth

_ROUNDS = 2


class _Round(nn.Module):
    """Queries look at each other, then at the image, then change by themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_each_other, self.to_image = Attention(width), Attention(width)
        self.feed_forward = FeedForward(width)

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        """One round.

        Args:
            queries: (B, classes of all tasks, width).
            image: (B, voxels, width).

        Returns:
            The changed queries.
        """
        queries = queries + self.to_each_other(queries, queries)
        queries = queries + self.to_image(queries, image)
        changed: Tensor = queries + self.feed_forward(queries)
        return changed


class CCQ(UniversalNetwork):
    """Class queries before and after the decoder."""

    binary_classes = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, finest = config.features[-1], config.features[0]
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, width, outputs=finest)
        self.queries = nn.Parameter(random_normal(config.tasks * (config.classes - 1), width))
        self.rounds = nn.ModuleList(_Round(width) for _ in range(_ROUNDS))
        self.before = Attention(width)
        self.after = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, finest))
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        """See the base class; the queries (B, classes of all tasks, width) are the features' context."""
        stages = self._stages(flattened(images))
        image = tokens_of(stages[-1])
        queries = self.queries.expand(len(image), -1, -1)
        for one in self.rounds:
            queries = one(queries, image)
        return Features(stages=tuple(stages), priors=None, context=queries)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """See the base class: the masks of the task's classes, and 0 for the background."""
        queries = self._queries(features, task)
        kernels = self.after(queries)
        embedded = self.decoder(self._class_relevant(features, queries), features.stages[:-1], levels)
        return [with_depth(with_background(class_masks(level, kernels))) for level in embedded]

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        queries = self._queries(features, task)
        return with_depth(self.decoder.finest(self._class_relevant(features, queries), features.stages[:-1]))

    def _queries(self, features: Features, task: Tensor | None) -> Tensor:
        """The queries of each sample's own classes, (B, classes, width)."""
        assert features.context is not None
        own = head_classes(needed(task, "task"), self.config.classes - 1)
        return features.context.gather(1, own.unsqueeze(-1).expand(-1, -1, features.context.shape[-1]))

    def _class_relevant(self, features: Features, queries: Tensor) -> Tensor:
        image = tokens_of(features.stages[-1])
        return attended_features(image + self.before(image, queries), features.stages[-1])
