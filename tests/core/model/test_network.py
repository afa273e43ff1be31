"""The assembled network on tiny widths: shapes, priors, mixed batches, many tasks from one encoder pass."""

import itertools

import pytest
import torch
from torch import Tensor

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.model.meduniseg import MedUniSeg
from meduniseg_core.model.modal_prior import ModalMap

CONFIG = ModelConfig(
    features=(4, 6, 8, 8, 10, 10), tasks=3, modalities=4, task_prompt_channels=5, modal_prompt_length=16
)


@pytest.fixture
def network() -> MedUniSeg:
    torch.manual_seed(0)
    return build_model(CONFIG).eval()


def ids(*values: int) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize("size", [(32, 64, 64), (16, 32, 32), (17, 33, 47), (1, 64, 64), (1, 50, 70)])
def test_five_levels_of_logits_finest_first_on_any_size(network: MedUniSeg, size: tuple[int, int, int]) -> None:
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, *size), ids(0, 1), ids(2, 3))
    assert len(logits) == 5
    assert logits[0].shape == (2, CONFIG.classes, *size)
    for finer, coarser in itertools.pairwise(logits):
        assert coarser.shape[-1] == -(-finer.shape[-1] // 2)
        assert all(level.isfinite().all() for level in logits)


@pytest.mark.parametrize(
    ("size", "dtype", "tolerance"),
    [
        ((32, 64, 64), torch.float64, 1e-9),
        ((1, 64, 96), torch.float64, 1e-9),
        ((32, 96, 96), torch.float32, 1e-5),
        ((1, 192, 160), torch.float32, 1e-5),
    ],
)
def test_a_mixed_batch_gives_per_sample_what_single_batches_give(
    network: MedUniSeg, size: tuple[int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    network.to(dtype)
    samples = [torch.randn(channels, *size, dtype=dtype) for channels in (3, 1, 4, 1, 2)]
    task, modality = ids(2, 0, 1, 2, 0), ids(3, 0, 1, 2, 0)
    with torch.inference_mode():
        together = network(samples, task, modality)
        for index, sample in enumerate(samples):
            alone = network(sample[None], task[index : index + 1], modality[index : index + 1])
            for mixed, single in zip(together, alone, strict=True):
                scale = float(single.abs().max())
                assert float((mixed[index] - single[0]).abs().max()) <= tolerance * max(1.0, scale)


def test_several_tasks_decoded_from_one_encoding_equal_separate_passes(network: MedUniSeg) -> None:
    image = torch.randn(1, 1, 16, 64, 64)
    with torch.inference_mode():
        features = network.encode(image, ids(1))
        for task in range(CONFIG.tasks):
            once = network.decode(features, ids(task))[0]
            assert torch.equal(once, network(image, ids(task), ids(1))[0])


def test_task_and_modality_change_the_output(network: MedUniSeg) -> None:
    image = torch.randn(1, 1, 1, 64, 64)
    with torch.inference_mode():
        first = network(image, ids(0), ids(0))[0]
        assert not torch.allclose(first, network(image, ids(1), ids(0))[0])
        assert not torch.allclose(first, network(image, ids(0), ids(1))[0])


def test_networks_without_priors_need_no_task_and_no_modality() -> None:
    plain = build_model(CONFIG.model_copy(update={"tasks": 0, "modalities": 0})).eval()
    with torch.inference_mode():
        assert plain(torch.randn(1, 2, 1, 32, 64))[0].shape == (1, CONFIG.classes, 1, 32, 64)


def test_a_missing_prior_argument_is_an_error(network: MedUniSeg) -> None:
    with pytest.raises(ValueError, match="modality"):
        network(torch.randn(1, 1, 1, 64, 64), ids(0))
    with pytest.raises(ValueError, match="task"):
        network(torch.randn(1, 1, 1, 64, 64), None, ids(0))


def test_a_channel_count_without_stem_is_an_error(network: MedUniSeg) -> None:
    with pytest.raises(ValueError, match="stems for 1, 2, 3, 4"):
        network(torch.randn(1, 5, 1, 64, 64), ids(0), ids(0))


def test_every_parameter_but_the_unused_stems_learns(network: MedUniSeg) -> None:
    network.train()
    logits = network(torch.randn(2, 2, 16, 64, 64), ids(0, 2), ids(1, 3))
    sum(level.square().mean() for level in logits).backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {f"encoder.stems.{c}.{part}" for c in (1, 3, 4) for part in ("weight", "bias")}
    prompts = network.modal_map.prompts.grad
    assert prompts is not None
    assert prompts[1].abs().sum() > 0
    assert prompts[0].abs().sum() == 0


def test_modal_maps_are_small_beside_the_image_and_stay_so_in_training() -> None:
    """The map's step grows with the prompt's squared length: entries of spread 1 let it outgrow the image."""
    torch.manual_seed(0)
    modal_map = ModalMap(3, 512)
    modality = torch.tensor([0, 1, 2])
    start = modal_map(modality, (32, 32)).detach()
    assert 0.1 < float(start.std()) < 0.5
    assert float((start[0] - start[1]).abs().mean()) > 0.1  # and it tells modalities apart
    loss = (modal_map(modality, (32, 32)) * torch.randn(3, 1, 32, 32)).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in modal_map.parameters():
            assert parameter.grad is not None
            parameter -= parameter.grad
    moved = modal_map(modality, (32, 32)).detach() - start
    assert 0 < float(moved.abs().max()) < 0.5 * float(start.std())
