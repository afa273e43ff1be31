"""The rate of every weight at every iteration."""

from __future__ import annotations

import pytest

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.optimizer import make_optimizer, set_rates


def test_weights_with_a_warm_up_stay_at_first_and_come_to_their_rate(config: TrainingConfig) -> None:
    warm = config.model_copy(update={"rate_warm_ups": (("*.head.*", 0), ("*", 4)), "rate_shares": (("fuse.*", 0.5),)})
    network = build_model(ModelConfig(features=(4, 4), strides=((1, 2, 2),)))
    optimizer = make_optimizer(warm, network)
    rates = {}
    for iteration in (0, 1, 4):
        set_rates(optimizer, warm, iteration)
        by_parameter = {id(own): group["lr"] for group in optimizer.param_groups for own in group["params"]}
        rates[iteration] = {name: by_parameter[id(own)] for name, own in network.named_parameters()}
    head, deep, prior = "decoder.levels.0.head.weight", "encoder.stages.1.0.conv.weight", "fuse.prompt"
    assert prior in rates[0]
    for iteration, part in ((0, 0), (1, 0.25), (4, 1)):
        rate = warm.rate_at(iteration)
        assert rates[iteration][head] == pytest.approx(rate)
        assert rates[iteration][deep] == pytest.approx(part * rate)
        assert rates[iteration][prior] == pytest.approx(part * rate / 2)
