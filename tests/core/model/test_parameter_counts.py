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


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("no-modal-prior", 32_726_083),
        ("multiple-prompts", 32_989_555),
        ("universal-prompts", 32_800_467),
        ("fixed-prompts", 32_785_555),
        ("bottleneck-prompts", 34_350_086),
        ("meduniseg-t", 32_802_023),
    ],
)
def test_variants_of_the_paper_have_the_counts_of_the_specification(architecture: str, parameters: int) -> None:
    """docs/spec.md section 10; the paper reports none of them, so the difference to MedUniSeg is derived by hand."""
    assert count_parameters(ARCHITECTURES[architecture])["total"] == parameters


@pytest.mark.parametrize(
    ("architecture", "parameters", "reported"),
    [
        # for one channel and two classes
        ("u-mamba-bot", 48_163_200, 48.2),  # the paper's table 3
        ("nnformer", 149_538_078, 149.3),  # UX-Net's paper; 150.5 in UNETR++'s
        ("swin-unetr", 62_196_020, 62.2),  # UX-Net's paper; 61.98 in Swin UNETR's
        ("unetr", 92_785_890, 92.8),  # UX-Net's paper; 92.58 in UNETR's
        ("cotr", 41_864_008, 41.9),  # PHTrans' paper
        ("u-kan", 6_356_418, 6.35),  # U-KAN's paper, for three channels and one class (6,356,689 here)
        ("ux-net", 53_019_362, 53.0),  # UX-Net's paper
    ],
)
def test_networks_for_one_task_have_the_counts_of_the_specification(
    architecture: str, parameters: int, reported: float
) -> None:
    """docs/spec.md section 15; ``reported`` in millions."""
    assert count_parameters(ARCHITECTURES[architecture])["total"] == parameters
    assert parameters / 1e6 == pytest.approx(reported, rel=2e-3)


@pytest.mark.parametrize(("name", "parameters"), [("u-mamba-bot", 17_162_048), ("mit", 23_474_842)])
def test_networks_that_serve_both_have_flat_kernels_in_2d(name: str, parameters: int) -> None:
    flat = ARCHITECTURES[name].model_copy(update={"dimension": 2})
    assert count_parameters(flat)["total"] == parameters


def test_mit_has_the_count_of_its_authors_program() -> None:
    """26.47 million are reported, which none of its program's variants has (docs/spec.md section 15)."""
    parts = count_parameters(ARCHITECTURES["mit"])
    assert parts["total"] == 43_638_106
    assert parts["places"] + parts["places_up"] == 2 * (55_296 * 48 + 6_912 * 128 + 864 * 256) + 108 * 512


def test_what_the_variants_change_follows_from_their_definition() -> None:
    whole = 32_804_563
    modal_prompts, linear, task_prompt = 9 * 512, 512 * 144 + 144, 100 * 4 * 6 * 6
    last_block = 27 * 105 + 1 + 2  # of one channel: kernel, bias, scale and shift of the norm
    fewer_outputs = 16 * last_block
    up_column, heads = 320 * 2 * 2 * 2, 5 * 4
    expected = {
        "no-modal-prior": -modal_prompts - linear,
        "multiple-prompts": 16 * task_prompt - fewer_outputs,
        "universal-prompts": -8 * 512,
        "fixed-prompts": -modal_prompts - task_prompt,
        "bottleneck-prompts": 9 * task_prompt + 1_537_251 - fewer_outputs + up_column - modal_prompts - linear,
        "meduniseg-t": heads - up_column,
    }
    for architecture, difference in expected.items():
        assert count_parameters(ARCHITECTURES[architecture])["total"] == whole + difference, architecture


@pytest.mark.parametrize(
    ("setting", "counts"),
    [
        ("fuse_blocks", {1: 31_460_143, 2: 32_506_573, 3: 32_804_563, 4: 33_102_553, 5: 33_400_543}),
        ("fuse_divisor", {1: 40_988_263, 2: 34_937_113, 3: 33_449_263, 4: 32_804_563, 5: 32_449_495}),
        ("modal_prompt_length", {256: 32_765_395, 512: 32_804_563, 1024: 32_882_899, 2048: 33_039_571}),
        ("task_prompt_channels", {50: 32_450_551, 100: 32_804_563, 150: 33_183_301, 200: 33_623_713}),
    ],
)
def test_sizes_of_fuse_and_of_the_prompts(setting: str, counts: dict[int, int]) -> None:
    for value, parameters in counts.items():
        assert count_parameters(ModelConfig.model_validate({setting: value}))["total"] == parameters


def test_modal_map_has_78480_parameters() -> None:
    assert count_parameters(ARCHITECTURES["meduniseg"])["modal_map"] == 78_480


def test_counts_without_allocation_equal_those_of_the_built_network() -> None:
    config = ModelConfig(features=(4, 8, 8, 8, 8, 8), tasks=2, modalities=2, task_prompt_channels=3)
    built = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert count_parameters(config)["total"] == built
