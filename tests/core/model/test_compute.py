"""Device and precision: asked for by name or by probe, never silently something else."""

from pathlib import Path

import pytest
import torch

from meduniseg_core.errors import UsageError
from meduniseg_core.model import ModelConfig, build_model, compute, optimised_for, resolve_device, resolve_precision

CPU = torch.device("cpu")
CONFIG = ModelConfig(features=(8, 8, 8, 8, 8, 8), tasks=2, modalities=2, task_prompt_channels=4)


def test_an_absent_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match="no usable device 'cuda'"):
        resolve_device("cuda")


def test_a_gpu_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cuda") == torch.device("cuda")
    assert compute.device_choices() == ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps")
    with pytest.raises(UsageError, match="no usable device 'cuda:2'; choose --device auto or cpu or cuda or cuda:0"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["cuda:", "cuda:-1", "cuda:x", "cuda:1:1", "cpu:0", "mps:9", "", "cuda:99999999999", "a\nb"]
)
def test_what_is_no_device_is_said_in_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="Unknown device") as caught:
        resolve_device(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_device_or_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="Unknown device"):
        resolve_device("tpu")
    with pytest.raises(UsageError, match="Unknown precision"):
        resolve_precision("fp8", CPU)
    with pytest.raises(UsageError, match="fp16 is not supported on the CPU"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(("ratio", "expected"), [(0.4, torch.bfloat16), (1.6, torch.float32)])
def test_auto_follows_the_probe_and_remembers_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, expected: torch.dtype
) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    monkeypatch.setattr(compute, "probe_cpu", lambda: {"fp32": 1.0, "bf16": ratio, "ratio": ratio})
    assert resolve_precision("auto", CPU) == expected

    def probed_again() -> dict[str, float]:
        raise AssertionError("probed a second time")

    monkeypatch.setattr(compute, "probe_cpu", probed_again)
    assert resolve_precision("auto", CPU) == expected


def test_a_damaged_probe_file_is_probed_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    (tmp_path / "probe.json").write_text("[not json")
    monkeypatch.setattr(compute, "probe_cpu", lambda: {"fp32": 1.0, "bf16": 0.5, "ratio": 0.5})
    assert resolve_precision("auto", CPU) == torch.bfloat16


@pytest.mark.parametrize("size", [(16, 64, 64), (1, 64, 64)])
def test_bf16_inference_stays_close_to_fp32(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 2, *size)
    ids = torch.zeros(1, dtype=torch.long)
    exact = build_model(CONFIG).eval()
    quick = build_model(CONFIG)
    quick.load_state_dict(exact.state_dict())
    optimised_for(quick, CPU, torch.bfloat16)
    with torch.inference_mode():
        reference = exact(images, ids, ids, levels=1)[0]
        with compute.inference_autocast(CPU, torch.bfloat16):
            result = quick(images, ids, ids, levels=1)[0].float()
    assert (result - reference).abs().mean() < 0.03 * reference.abs().mean()


def test_the_2d_counterpart_can_be_optimised_too() -> None:
    plain = build_model(ModelConfig(features=(4, 8, 8, 8, 8, 8), stems=(3,), modalities=0, tasks=0, dimension=2))
    optimised_for(plain, CPU, torch.float32)
    with torch.inference_mode():
        assert plain(torch.randn(1, 3, 1, 64, 64), levels=1)[0].shape == (1, 4, 1, 64, 64)
