"""docs/spec.md section 2: the counts that must come out to the digit."""

import pytest

from meduniseg_core.model import ARCHITECTURES, ModelConfig, build_model, count_parameters


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("backbone-3d", 31_168_160),
        ("backbone-2d", 10_710_688),
        ("downstream-siim", 31_242_544),
        ("meduniseg", 32_804_563),
    ],
)
def test_architecture_has_the_papers_parameter_count(architecture: str, parameters: int) -> None:
    assert count_parameters(ARCHITECTURES[architecture])["total"] == parameters


def test_modal_map_has_78480_parameters() -> None:
    assert count_parameters(ARCHITECTURES["meduniseg"])["modal_map"] == 78_480


def test_counts_without_allocation_equal_those_of_the_built_network() -> None:
    config = ModelConfig(features=(4, 8, 8, 8, 8, 8), tasks=2, modalities=2, task_prompt_channels=3)
    built = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert count_parameters(config)["total"] == built
