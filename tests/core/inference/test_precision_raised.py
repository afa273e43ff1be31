"""Logits that are not finite in half precision alone: the image is segmented once more in fp32, and that is said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan
from torch import Tensor

from meduniseg_core.errors import CancelledError, NonFiniteOutputError
from meduniseg_core.events import CancelToken, Event, Message
from meduniseg_core.inference import Predictor
from meduniseg_core.inference import predictor as predictor_module
from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import TaskPlan


def overflow(monkeypatch: pytest.MonkeyPatch, value: float = math.inf, window: int = 0) -> list[torch.dtype]:
    """A window of a network whose weights are in half precision has a logit of ``value``; the dtypes that ran."""
    decode, ran = MedUniSeg.decode, []

    def spoiled(self: MedUniSeg, *args: object, **kwargs: object) -> list[Tensor]:
        logits = decode(self, *args, **kwargs)  # type: ignore[arg-type]
        dtype = self.encoder.stem_dtype()
        if dtype != torch.float32 and ran.count(dtype) == window:
            logits[0][0, 0, -1, 3, 5] = value
        ran.append(dtype)
        return logits

    monkeypatch.setattr(MedUniSeg, "decode", spoiled)
    return ran


def raised(findings: tuple) -> list[str]:
    return [finding.text for finding in findings if finding.code == "precision_raised"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("probabilities", [False, True])
def test_the_result_is_that_of_fp32_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float, probabilities: bool
) -> None:
    model, image = tiny_model([volume_plan()]), volume((24, 96, 64))
    exact = Predictor(model, "cpu", "fp32", batch=1).segment(image, "organ", probabilities=probabilities)["organ"]
    ran = overflow(monkeypatch, value, window=1)
    events: list[Event] = []
    session = Predictor(model, "cpu", "bf16", batch=1)
    result = session.segment(image, "organ", probabilities=probabilities, events=events.append)["organ"]
    assert np.array_equal(result.labels.array, exact.labels.array)
    if probabilities:
        assert np.array_equal(result.probabilities.array, exact.probabilities.array)  # type: ignore[union-attr]
    (text,) = raised(result.findings)
    assert image.name in text and "organ" in text and "bfloat16" in text
    assert [event.text for event in events if isinstance(event, Message)].count(text) == 1
    assert result.settings["precision"] == "float32"
    result.save(tmp_path / "labels.nii.gz")
    warnings = json.loads((tmp_path / "labels.json").read_text())["warnings"]
    assert [entry["text"] for entry in warnings if entry["code"] == "precision_raised"] == [text]
    assert ran[0] == torch.bfloat16 and ran[-1] == torch.float32


def test_the_next_image_runs_in_the_session_s_precision_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = overflow(monkeypatch)
    session = Predictor(tiny_model([volume_plan()]), "cpu", "bf16", batch=1)
    assert raised(session.segment(volume((16, 64, 64)), "organ")["organ"].findings)
    ran[:] = [torch.bfloat16]  # no window of the next image is the first
    result = session.segment(volume((16, 64, 64), seed=1), "organ")["organ"]
    assert not raised(result.findings) and result.settings["precision"] == "bfloat16"
    assert session.engine(session.device).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "plan", [volume_plan("flat", dimension=2, patch=(1, 64, 64)), volume_plan("flat", averaging="probabilities")]
)
def test_slices_of_a_volume_and_averaged_probabilities(monkeypatch: pytest.MonkeyPatch, plan: TaskPlan) -> None:
    model, image = tiny_model([plan]), volume((35, 64, 64))
    exact = Predictor(model, "cpu", "fp32", batch=1).segment(image, "flat")["flat"]
    overflow(monkeypatch, window=33 if plan.dimension == 2 else 0)
    result = Predictor(model, "cpu", "bf16", batch=1).segment(image, "flat")["flat"]
    assert raised(result.findings) and np.array_equal(result.labels.array, exact.labels.array)


def test_other_tasks_of_the_image_keep_the_session_s_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [picture_plan(), picture_plan("larger", longest_side=96, patch=(1, 96, 96))]
    overflow(monkeypatch)
    results = Predictor(tiny_model(plans), "cpu", "bf16", batch=1).segment(picture(60, 64), ["spot", "larger"])
    assert raised(results["spot"].findings) and not raised(results["larger"].findings)
    assert results["larger"].settings["precision"] == "bfloat16"


def test_only_where_fp32_is_not_finite_either_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = MedUniSeg.decode
    monkeypatch.setattr(MedUniSeg, "decode", lambda *a, **k: [level * math.nan for level in decode(*a, **k)])
    events: list[Event] = []
    with pytest.raises(NonFiniteOutputError, match="use another one"):
        Predictor(tiny_model([volume_plan()]), "cpu", "bf16").segment(
            volume((16, 64, 64)), "organ", events=events.append
        )
    assert any("once more in fp32" in event.text for event in events if isinstance(event, Message))


def test_the_second_run_is_cancelled_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    overflow(monkeypatch)
    cancel = CancelToken()

    def stop(event: Event) -> None:
        if isinstance(event, Message) and "once more" in event.text:
            cancel.cancel()

    with pytest.raises(CancelledError):
        Predictor(tiny_model([volume_plan()]), "cpu", "bf16", batch=1).segment(
            volume((40, 96, 96)), "organ", events=stop, cancel=cancel
        )


def test_weights_beyond_fp16_are_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose stem says 10^6: its norm undoes that in fp32, and fp16 cannot hold it."""
    model = tiny_model([volume_plan()])
    image = volume((16, 64, 64))
    with torch.no_grad():
        for value in model.network.encoder.stems.parameters():  # type: ignore[union-attr]
            value.mul_(1e6)
    exact = Predictor(model, "cpu", "fp32").segment(image, "organ")["organ"]
    monkeypatch.setattr(predictor_module, "resolve_precision", lambda name, device: torch.float16)
    result = Predictor(model, "cpu", "auto").segment(image, "organ")["organ"]
    assert raised(result.findings) and np.array_equal(result.labels.array, exact.labels.array)


def test_sums_of_nnunet_that_overflow_in_half_precision_are_taken_in_single() -> None:
    """Version 2 of the scheme adds windows up in half precision: logits of 10^5 are finite, their sums are not."""
    model = tiny_model([volume_plan(scheme={}, mirror_axes=())])
    with torch.no_grad():
        model.network.decoder.levels[-1].head.weight.mul_(1e6)  # type: ignore[union-attr, operator]
    result = Predictor(model, "cpu", "fp32").segment(volume((24, 96, 64)), "organ")["organ"]
    (text,) = raised(result.findings)
    assert "sums in half precision" in text and len(np.unique(result.labels.array)) > 1
