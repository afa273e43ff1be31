"""Other papers' universal networks on the backbone (docs/spec.md section 13)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_variants import VARIANTS, tiny
from pydantic import ValidationError
from torch import Tensor

from meduniseg_core.model import ARCHITECTURES, UniversalNetwork, build_model
from meduniseg_core.model.baselines import CCQ, DoDNet, Hermes, UniversalModel
from meduniseg_core.model.baselines.heads import dynamic_head, head_sizes, parameters_of, with_background
from meduniseg_core.model.compute import autocast, inference_autocast, optimised_for

BASELINES: dict[str, dict[str, Any]] = {
    "dodnet": {"method": "dodnet", "modalities": 0},
    "universal-model": {"method": "universal-model", "modalities": 0},
    "ccq": {"method": "ccq", "modalities": 0},
    "hermes": {"method": "hermes"},
}


def ids(*values: int) -> Tensor:
    return torch.tensor(values)


def network_of(name: str) -> UniversalNetwork:
    torch.manual_seed(0)
    return build_model(tiny(BASELINES[name])).double().eval()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(16, 32, 32), (1, 40, 33)])
def test_a_mixed_batch_gives_per_sample_what_single_batches_give(name: str, size: tuple[int, int, int]) -> None:
    network = network_of(name)
    samples = [torch.randn(channels, *size, dtype=torch.float64) for channels in (3, 1, 4)]
    task, modality = ids(2, 0, 1), ids(3, 0, 1)
    with torch.inference_mode():
        together = network(samples, task, modality)
        assert [level.shape[1] for level in together] == [3, 3, 3] and together[0].shape == (3, 3, *size)
        features = network.encode(samples, modality)
        assert network.decode_features(features, task).shape == (3, 4, *size)
        for index, sample in enumerate(samples):
            alone = network(sample[None], task[index : index + 1], modality[index : index + 1])
            for mixed, single in zip(together, alone, strict=True):
                torch.testing.assert_close(mixed[index], single[0], rtol=0, atol=1e-9)
        for other in range(3):  # any task from one encoding
            again = ids(other, other, other)
            torch.testing.assert_close(network.decode(features, again)[0], network(samples, again, modality)[0])


@pytest.mark.parametrize("name", BASELINES)
def test_the_2d_path_is_the_same_function_as_a_volume_of_depth_1(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = network_of(name), torch.randn(2, 1, 1, 32, 48, dtype=torch.float64)
    with torch.inference_mode():
        flat = network(image, ids(0, 1), ids(1, 3))
        monkeypatch.setattr(f"{type(network).encode.__module__}.flattened", lambda images: images)
        volume = network(image, ids(0, 1), ids(1, 3))
    for ours, expected in zip(flat, volume, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_task_and_where_it_is_told_modality_change_the_output(name: str) -> None:
    network, image = network_of(name), torch.randn(1, 1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        one = network(image, ids(0), ids(0))[0]
        assert not torch.allclose(one, network(image, ids(1), ids(0))[0])
        assert torch.allclose(one, network(image, ids(0), ids(2))[0]) == (name != "hermes")
    with pytest.raises(ValueError, match="task"):
        network(image, None, ids(0))


@pytest.mark.parametrize("name", BASELINES)
def test_all_learns_but_what_belongs_to_other_tasks(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(tiny({**BASELINES[name], "stems": (1,)})).double()
    levels = network(torch.randn(1, 1, 16, 32, 32, dtype=torch.float64), ids(1), ids(2))
    sum(level[:, 1].square().mean() for level in levels).backward()  # the first foreground class of task 1
    gradients = {weight: own.grad for weight, own in network.named_parameters()}
    assert not [weight for weight, gradient in gradients.items() if gradient is None]
    per_class = {
        "universal-model": ["embeddings"],
        "hermes": [weight for weight in gradients if weight.endswith(".tasks")],
    }.get(name, [])
    for weight in per_class:
        gradient = gradients[weight]
        assert gradient is not None
        touched = gradient.abs().sum(1).nonzero().flatten().tolist()
        # priors of one task exchange what they know; of other tasks none is there
        assert touched == ([2, 3] if name == "hermes" else [2]), weight


def test_a_dynamic_head_is_the_convolutions_that_its_parameters_describe() -> None:
    sizes = head_sizes(3)
    x, parameters = torch.randn(2, 8, 4, 5), torch.randn(2, 1, parameters_of(sizes))
    for sample, own, found in zip(x, parameters[:, 0], dynamic_head(x, parameters, sizes), strict=True):
        expected = sample[None]
        for before, after in ((8, 8), (8, 8), (8, 3)):
            weight, own = own[: before * after].view(after, before, 1, 1), own[before * after :]
            bias, own = own[:after], own[after:]
            expected = torch.nn.functional.conv2d(expected, weight, bias)
            expected = expected.relu() if after == 8 else expected
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)
        assert not len(own)


def test_one_class_s_probability_is_the_sigmoid_of_its_log_odds() -> None:
    odds = torch.randn(2, 1, 3, 4)
    torch.testing.assert_close(with_background(odds).softmax(1)[:, 1:], odds.sigmoid())


@pytest.mark.parametrize(
    ("method", "kind"),
    [("dodnet", DoDNet), ("universal-model", UniversalModel), ("ccq", CCQ), ("hermes", Hermes)],
)
def test_an_architecture_s_name_builds_the_method_s_network(method: str, kind: type[UniversalNetwork]) -> None:
    with torch.device("meta"):
        network = build_model(ARCHITECTURES[method])
    assert type(network) is kind


def test_settings_that_a_baseline_does_not_have_are_refused() -> None:
    for changes, reason in (
        ({"method": "dodnet"}, "hermes alone"),
        ({"method": "hermes", "modalities": 0}, "hermes alone"),
        ({"method": "ccq", "modalities": 0, "tasks": 0}, "one task at least"),
        ({"method": "ccq", "modalities": 0, "fuse_blocks": 2}, "fuse_blocks is a setting of MedUniSeg"),
    ):
        with pytest.raises(ValidationError, match=reason):
            tiny(changes)


@pytest.mark.parametrize("name", [*BASELINES, *VARIANTS])
def test_all_networks_run_in_half_precision_as_the_predictor_runs_them(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(tiny(BASELINES[name] if name in BASELINES else VARIANTS[name]))
    device, image = torch.device("cpu"), torch.randn(1, 1, 1, 64, 64)
    with torch.inference_mode():
        exact = network.eval()(image, ids(1), ids(2), 1)[0]
        half = optimised_for(network, device, torch.bfloat16)
        with inference_autocast(device, torch.bfloat16):
            found = half.decode(half.encode(image, ids(2)), ids(1))[0].float()
    assert float((found - exact).abs().max()) < 0.15 * float(exact.abs().max())


@pytest.mark.parametrize("name", BASELINES)
def test_all_baselines_train_in_mixed_precision(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(tiny({**BASELINES[name], "stems": (1,)}))
    with autocast(torch.device("cpu"), torch.bfloat16):
        levels = network(torch.randn(2, 1, 1, 64, 64), ids(0, 1), ids(1, 2))
    sum(level.float().square().mean() for level in levels).backward()
    assert all(own.grad is not None and own.grad.isfinite().all() for own in network.parameters())
