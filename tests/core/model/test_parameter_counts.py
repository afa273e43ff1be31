"""Parameters of all networks, in one table with their sources: the counts that must come out to the digit."""

from typing import NamedTuple

import pytest

from meduniseg_core.model import ARCHITECTURES, ModelConfig, build_model, count_parameters


class Count(NamedTuple):
    """An architecture's parameters, to the digit, and what is reported of it, in millions, and where."""

    architecture: str
    parameters: int
    reported: float | None
    source: str


MEDUNISEG = "the MedUniSeg paper"
OWN_SIZE = "nowhere at this size: docs/spec.md section 10"
OTHER_BACKBONE = "nowhere on this backbone: docs/spec.md section 13"
COUNTS = (
    # one stem for three channels, two classes; the universal network: 17 tasks, nine modalities
    Count("backbone-3d", 31_168_160, 31.17, MEDUNISEG),
    Count("backbone-2d", 10_710_688, 10.71, MEDUNISEG),
    Count("downstream-siim", 31_242_544, 31.24, MEDUNISEG),
    Count("meduniseg", 32_804_563, None, "the MedUniSeg paper: less than a tenth of 17 nnU-Nets"),
    Count("uniseg", 32_114_381, None, "UniSeg's published checkpoint, whose eleven tasks it has"),
    # variants of the paper's figure 3, on the universal network
    Count("no-modal-prior", 32_726_083, None, OWN_SIZE),
    Count("multiple-prompts", 32_989_555, None, OWN_SIZE),
    Count("universal-prompts", 32_800_467, None, OWN_SIZE),
    Count("fixed-prompts", 32_785_555, None, OWN_SIZE),
    Count("bottleneck-prompts", 34_350_086, None, OWN_SIZE),
    Count("meduniseg-t", 32_802_023, None, OWN_SIZE),
    # other papers' universal networks, on the universal network's backbone
    Count("dodnet", 31_235_912, None, OTHER_BACKBONE),
    Count("universal-model", 31_493_177, None, OTHER_BACKBONE),
    Count("ccq", 35_027_904, None, OTHER_BACKBONE),
    Count("hermes", 57_946_176, None, OTHER_BACKBONE),
    # networks for one task, for one channel and two classes
    Count("u-mamba-bot", 48_163_200, 48.2, "the MedUniSeg paper, table 3"),
    Count("nnformer", 149_538_078, 149.3, "3D UX-Net's paper; 150.5 in UNETR++'s"),
    Count("swin-unetr", 62_196_020, 62.2, "3D UX-Net's paper; 61.98 in Swin UNETR's"),
    Count("unetr", 92_785_890, 92.8, "3D UX-Net's paper; 92.58 in UNETR's"),
    Count("cotr", 41_864_008, 41.9, "PHTrans' paper"),
    Count("u-kan", 6_356_418, 6.35, "U-KAN's paper, for three channels and one class (6,356,689 here)"),
    Count("ux-net", 53_019_362, 53.0, "3D UX-Net's paper"),
    Count("mit", 43_638_106, None, "UniMiSS' paper: 26.47, which none of its program's variants has"),
)


@pytest.mark.parametrize("count", COUNTS, ids=[count.architecture for count in COUNTS])
def test_an_architecture_has_the_count_of_the_specification_and_of_its_source(count: Count) -> None:
    """docs/spec.md sections 2, 10, 13 and 15."""
    assert count_parameters(ARCHITECTURES[count.architecture])["total"] == count.parameters
    if count.reported is not None:
        assert count.parameters / 1e6 == pytest.approx(count.reported, rel=2e-3), count.source


def test_the_table_has_every_architecture() -> None:
    assert {count.architecture for count in COUNTS} == set(ARCHITECTURES)


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
