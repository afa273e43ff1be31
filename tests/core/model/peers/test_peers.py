"""Other papers' networks for one task (docs/spec.md section 15), behind the interface of all networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from meduniseg_core.model import ARCHITECTURES, ModelConfig, UniversalNetwork, build_model
from meduniseg_core.model.compute import autocast, inference_autocast, optimised_for
from meduniseg_core.model.peer_table import PEERS
from meduniseg_core.model.unet import Recomputed
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from tests.small_peers import FORMS, SIZES, small_peer

NAMES = list(PEERS)
STRIDES_OF_THEIR_OWN = [name for name, peer in PEERS.items() if peer.strides is not None]
ONE_FORM = {name: peer for name, peer in PEERS.items() if len(peer.dimensions) == 1}
IMAGES = {2: (1, 64, 64), 3: (32, 64, 64)}


def network_of(name: str, **changes: Any) -> UniversalNetwork:
    torch.manual_seed(0)
    return build_model(small_peer(name, **changes))


def logits_of(network: UniversalNetwork, image: Tensor) -> Tensor:
    return network.decode(network.encode(image))[0]


def test_every_network_has_its_architecture_and_is_tested_here() -> None:
    assert set(SIZES) == set(PEERS)
    for name, peer in PEERS.items():
        with torch.device("meta"):
            assert type(build_model(ARCHITECTURES[name])).__name__ == peer.builder


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_a_batch_gives_per_sample_what_single_images_give(name: str, dimension: int) -> None:
    network = network_of(name, dimension=dimension).double().eval()
    size = IMAGES[dimension]
    samples = [torch.randn(2, *size, dtype=torch.float64) for _ in range(3)]
    with torch.inference_mode():
        together = network(samples)
        assert len(together) == network.levels and together[0].shape == (3, 3, *size)
        features = network.encode(torch.stack(samples))
        assert network.decode_features(features).shape[2:] == size
        torch.testing.assert_close(network.decode(features)[0], together[0])
        for index, sample in enumerate(samples):
            torch.testing.assert_close(logits_of(network, sample[None])[0], together[0][index], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_a_step_lowers_the_loss_and_every_weight_learns(name: str, dimension: int) -> None:
    network = network_of(name, dimension=dimension)
    image, labels = torch.randn(1, 2, *IMAGES[dimension]), torch.zeros(1, *IMAGES[dimension], dtype=torch.int64)
    labels[..., 16:48, 16:40] = 1
    image[:, 0] += 3 * labels
    weights = deep_supervision_weights(network.levels)

    def loss() -> Tensor:
        return deep_supervision_loss(network(image), labels, 3, weights=weights)

    sum(level.square().mean() for level in network(image)).backward()
    assert not [weight for weight, own in network.named_parameters() if own.grad is None]
    network.zero_grad()
    before = loss()
    before.backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert loss().item() < before.item()


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_all_run_in_half_precision_as_the_predictor_runs_them(name: str, dimension: int) -> None:
    network = network_of(name, dimension=dimension).eval()
    device, image = torch.device("cpu"), torch.randn(1, 2, *IMAGES[dimension])
    with torch.inference_mode():
        exact = logits_of(network, image)
        half = optimised_for(network, device, torch.bfloat16)
        with inference_autocast(device, torch.bfloat16):
            found = logits_of(half, image).float()
    assert float((found - exact).abs().max()) < 0.15 * float(exact.abs().max())


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_all_train_in_mixed_precision(name: str, dimension: int) -> None:
    network = network_of(name, dimension=dimension)
    with autocast(torch.device("cpu"), torch.bfloat16):
        levels = network(torch.randn(2, 2, *IMAGES[dimension]))
    sum(level.float().square().mean() for level in levels).backward()
    assert all(own.grad is not None and own.grad.isfinite().all() for own in network.parameters())


@pytest.mark.parametrize("change", [{"tasks": 1}, {"modalities": 2}, {"stems": (1, 2)}])
@pytest.mark.parametrize("name", NAMES)
def test_what_one_task_does_not_need_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is for one task"):
        small_peer(name, **change)


def test_u_mamba_takes_every_size_and_images_of_depth_1_in_its_3d_form(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("u-mamba-bot").double().eval()
    with torch.inference_mode():
        for size in ((1, 40, 33), (9, 33, 35), (5, 16, 16)):
            assert network(torch.randn(1, 2, *size).double())[0].shape == (1, 3, *size)
        image = torch.randn(2, 2, 1, 32, 48, dtype=torch.float64)
        flat = network(image)
        monkeypatch.setattr("meduniseg_core.model.peers.u_mamba.flattened", lambda images: images)
        for ours, expected in zip(flat, network(image), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_u_mamba_s_bottleneck_sees_the_image_from_far_away() -> None:
    """The Mamba block takes what is first in the sequence to its end."""
    network = network_of("u-mamba-bot").double()
    image = torch.randn(1, 2, 8, 32, 256, dtype=torch.float64, requires_grad=True)
    network.encode(image).stages[-1][0, :, -1, -1, -1].sum().backward()
    assert image.grad is not None
    assert image.grad[0, :, 0, 0, 0].abs().sum() > 0


@pytest.mark.parametrize("name", STRIDES_OF_THEIR_OWN)
def test_a_network_with_strides_of_its_own_says_what_it_takes(name: str) -> None:
    network = network_of(name).eval()
    steps = network.config.total_stride
    for add in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        size = [2 * step + more for step, more in zip(steps, add, strict=True)]
        with pytest.raises(
            ValueError, match=rf"^{name} takes .* whose sides are multiples of \({steps[0]}, {steps[1]},"
        ):
            network.encode(torch.zeros(1, 2, *size))
    with pytest.raises(ValidationError, match=f"{name} has strides of its own"):
        small_peer(name, strides=((1, 2, 4), *SIZES[name]["strides"][1:]))
    assert ModelConfig(method=name, stems=(1,), modalities=0, tasks=0, dimension=network.config.dimension).strides == (
        PEERS[name].strides
    )


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.strided])
def test_a_network_that_begins_with_a_stride_refuses_a_width_for_the_image_s_size(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} begins with a stride: its first two features are the same"):
        small_peer(name, features=(3, *SIZES[name]["features"][1:]))


def test_cotr_refuses_two_widths_for_one_sequence() -> None:
    with pytest.raises(ValidationError, match="cotr makes one sequence of its last two sizes"):
        small_peer("cotr", features=(4, 4, 8, 12, 16))


@pytest.mark.parametrize("name", STRIDES_OF_THEIR_OWN)
def test_networks_run_with_the_fewest_stages_and_refuse_fewer(name: str) -> None:
    features, strides = SIZES[name]["features"], SIZES[name]["strides"]
    few = {"features": (features[0], *features[1:2] * 2), "strides": strides[:2]}
    network = network_of(name, **few).eval()
    size = [2 * step for step in network.config.total_stride]
    if network.config.dimension == 2:
        size[0] = 1
    with torch.inference_mode():
        assert network(torch.randn(1, 2, *size))[0].shape == (1, 3, *size)
    given = {"method": name, "features": few["features"], "modalities": 0, "tasks": 0, "stems": (1,)}
    left_out = ModelConfig(**given, dimension=network.config.dimension)
    assert left_out.strides == PEERS[name].strides[:2]  # "leave strides out", as the refusal of others says
    with pytest.raises(ValidationError, match=f"{name} has 3 features at least"):
        small_peer(name, features=features[:2], strides=strides[:1])


@pytest.mark.parametrize(("name", "other"), [(name, 5 - max(peer.dimensions)) for name, peer in ONE_FORM.items()])
def test_a_network_of_one_form_refuses_the_other_images(name: str, other: int) -> None:
    with pytest.raises(ValidationError, match=rf"{name} is for (volumes|2D images), not for (2D images|volumes)"):
        small_peer(name, dimension=other)


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_all_recompute_activations_to_the_same_gradient(name: str, dimension: int) -> None:
    gradients = []
    for again in (False, True):
        network = network_of(name, dimension=dimension)
        shape = (2, *(min(side, 32) for side in IMAGES[dimension]))
        image = torch.linspace(-1, 1, math.prod(shape)).view(1, *shape)
        parts = [part for part in network.modules() if isinstance(part, Recomputed)]
        assert parts
        for part in parts:
            part.recompute = again
        network(image)[0].square().mean().backward()
        gradients.append([own.grad for own in network.parameters() if own.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
