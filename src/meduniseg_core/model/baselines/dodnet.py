"""DoDNet on the backbone (Zhang, Xie, Xia, Shen: "DoDNet", CVPR 2021).

The paper's idea: data sets with labels of one organ each cannot share a fixed head, and a head for each wastes what
they have in common. So there is a single head, of three 1x1x1 convolutions with 8 channels, whose weights are computed
for each image: a controller (one linear layer) makes them of the image's global features (average pooling of the
encoder's last stage) and the task as a one-hot vector. Encoder and decoder know nothing of the task.

Here, on the backbone of docs/spec.md section 2: a 1x1x1 convolution at every decoder level reduces its features to 8
channels, and the same computed head is applied at each (deep supervision). The paper's head has two outputs, organ and
tumour, with sigmoids; here it has as many as the largest task has classes, with the softmax and the loss of all other
networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.heads import WIDTH, dynamic_head, head_sizes, parameters_of, pooled_features
from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet import Decoder, Encoder
from meduniseg_core.model.universal import UniversalNetwork, needed, with_depth


class DoDNet(UniversalNetwork):
    """One-hot task, one dynamic head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, config.features[-1], outputs=WIDTH)
        self._sizes = head_sizes(config.classes)
        self.controller = nn.Linear(config.features[-1] + config.tasks, parameters_of(self._sizes))
        self.apply(initialise)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        seen = pooled_features(features.stages[-1])
        code = F.one_hot(needed(task, "task"), self.config.tasks).to(seen.dtype)
        parameters = self.controller(torch.cat((seen, code), dim=1)).unsqueeze(1)
        reduced = self.decoder(features.stages[-1], features.stages[:-1], levels)
        return [with_depth(dynamic_head(level, parameters, self._sizes)) for level in reduced]
